"""Encoders with random weights, and checkpoints of them in the layouts that torchvision and timm have used."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from support.lean_equals_plain import randomise
from torch import Tensor, nn

from ladderseg_fast.nn import DenseNetFeatures


def tiny_densenet(in_channels: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Every kind of layer that a DenseNet's encoder has."""
    features = DenseNetFeatures((1, 2, 1, 2), stem_channels=8, growth_rate=4, in_channels=in_channels)
    return randomise(features, seed).to(dtype)


class TinyResNet(nn.Module):
    """The names of a ResNet's encoder: a stem and one bottleneck with a projection."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 8, 7, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        block = nn.Module()
        for i, (source, channels, size) in enumerate([(8, 4, 1), (4, 4, 3), (4, 16, 1)], start=1):
            block.add_module(f"conv{i}", nn.Conv2d(source, channels, size, bias=False))
            block.add_module(f"bn{i}", nn.BatchNorm2d(channels))
        block.downsample = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.layer1 = nn.Sequential(block)


def tiny_resnet(in_channels: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    return randomise(TinyResNet(in_channels), seed).to(dtype)


#: Architecture to an encoder of its family.
ENCODERS = {"densenet121": tiny_densenet, "resnet50": tiny_resnet}


def network_state(features: nn.Module, architecture: str) -> dict[str, Tensor]:
    """The state_dict of torchvision's whole network around `features`; timm names things alike."""
    state = features.state_dict()
    if architecture == "resnet50":
        return state | {"fc.weight": torch.ones(7, 16), "fc.bias": torch.ones(7)}
    norm5 = nn.BatchNorm2d(19).state_dict()
    state = {f"features.{name}": tensor for name, tensor in state.items()}
    state |= {f"features.norm5.{name}": tensor for name, tensor in norm5.items()}
    return state | {"classifier.weight": torch.ones(7, 19), "classifier.bias": torch.ones(7)}


def without_counts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def old_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The DenseNet checkpoints of 2017: `denselayer1.norm.1.weight`, and no num_batches_tracked."""
    return {re.sub(r"(layer\d+\.(?:norm|conv))([12])", r"\1.\2", n): t for n, t in without_counts(state).items()}


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "sprung")
