"""Every configuration of the paper's tables, and the ladder on other ResNets, by name."""

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..lean import MemoryPlan
from ..memory.api import resolve_names_by
from .densenets import DenseNet32x, DilatedDenseNet, LadderDenseNet
from .resnets import DilatedResNet, LadderResNet, ResNet32x
from .segmentation_model import SegmentationModel


@dataclass(frozen=True)
class Configuration:
    """A model class with its arguments."""

    title: str
    """The paper's name for it, or one in the same style."""
    model_class: type[SegmentationModel]
    options: Mapping[str, Any] = field(default_factory=dict)


CONFIGURATIONS: dict[str, Configuration] = {
    "ladder_densenet121": Configuration("LadderDenseNet-121 4x", LadderDenseNet, {"backbone": "densenet121"}),
    "ladder_densenet161": Configuration("LadderDenseNet-161 4x", LadderDenseNet, {"backbone": "densenet161"}),
    "ladder_densenet169": Configuration("LadderDenseNet-169 4x", LadderDenseNet, {"backbone": "densenet169"}),
    "ladder_densenet201": Configuration("LadderDenseNet-201 4x", LadderDenseNet, {"backbone": "densenet201"}),
    "ladder_densenet121_single": Configuration(
        "LadderDenseNet-121 4x single loss", LadderDenseNet, {"backbone": "densenet121", "auxiliary": False}
    ),
    "ladder_densenet169_split34": Configuration(
        "LadderDenseNet-169 4x split3+4", LadderDenseNet, {"backbone": "densenet169", "split_blocks": (3, 4)}
    ),
    "ladder_densenet169_spp": Configuration(
        "LadderDenseNet-169 4x SPP", LadderDenseNet, {"backbone": "densenet169", "context": "pyramid"}
    ),
    "densenet121_32x": Configuration("DenseNet-121 32x", DenseNet32x, {"backbone": "densenet121"}),
    "dilated_densenet121": Configuration("Dilated 8x DenseNet-121 4x", DilatedDenseNet, {"backbone": "densenet121"}),
    "ladder_resnet18": Configuration("LadderResNet-18 4x", LadderResNet, {"backbone": "resnet18"}),
    "ladder_resnet34": Configuration("LadderResNet-34 4x", LadderResNet, {"backbone": "resnet34"}),
    "ladder_resnet50": Configuration("LadderResNet-50 4x", LadderResNet),
    "ladder_resnet101": Configuration("LadderResNet-101 4x", LadderResNet, {"backbone": "resnet101"}),
    "resnet50_32x": Configuration("ResNet-50 32x", ResNet32x),
    "dilated_resnet50": Configuration("Dilated 8x ResNet-50 4x", DilatedResNet),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that create_model takes and that match a shell pattern, in alphabetical order."""
    return sorted(fnmatch.filter(CONFIGURATIONS, pattern))


def full_name(name: str) -> str:
    """Returns `name` if list_models() has it; for a backbone such as "densenet121", the name of the ladder on it.

    Raises:
        ValueError: `name` is neither.
    """
    for candidate in (name, f"ladder_{name}"):
        if candidate in CONFIGURATIONS:
            return candidate
    raise ValueError(f"the model must be one of {', '.join(list_models())}, got {name!r}")


def create_model(
    name: str,
    num_classes: int = 19,
    in_channels: int = 3,
    weights: str | os.PathLike[str] | None = None,
    frozen_bn: bool = False,
    memory: str | int | MemoryPlan = "lean",
) -> SegmentationModel:
    """Creates a model of the paper.

    Args:
        name: one of list_models(), or a backbone's name as in full_name.
        num_classes: K, 1 to 256.
        in_channels: channels of the images; pretrained weights of the first convolution are adapted to them.
        weights: None for random weights; a file with pretrained weights of the encoder; "imagenet" to download them
            with torchvision or timm.
        frozen_bn: every BatchNorm stays in inference mode while training.
        memory: "lean", "plain", a budget such as "8GiB", or a MemoryPlan; see SegmentationModel.

    Raises:
        ValueError: an unknown name, an argument out of range, or weights that do not fit.
        OSError: the weights cannot be read or downloaded.
        MissingPackageError: "imagenet" without torchvision or timm.
    """
    configuration = CONFIGURATIONS[full_name(name)]
    return configuration.model_class(
        **configuration.options,
        num_classes=num_classes,
        in_channels=in_channels,
        weights=weights,
        frozen_bn=frozen_bn,
        memory=memory,
    )


def _without_memory(name: str, num_classes: int, in_channels: int) -> SegmentationModel:
    with torch.device("meta"):
        return create_model(name, num_classes, in_channels)


resolve_names_by(_without_memory)
