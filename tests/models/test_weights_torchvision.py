"""Our encoders compute what torchvision's and timm's networks compute on the same weights, bit for bit."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support import torchvision_networks
from support.encoder_checkpoints import old_names
from support.lean_equals_plain import randomise
from torch import Tensor, nn

from ladderseg_fast import create_model
from ladderseg_fast.models.weights import load_encoder_weights
from ladderseg_fast.nn import DENSENETS, RESNETS, DenseNetFeatures, ResNetFeatures

DENSE_BLOCKS = {f"db{i}": f"features.denseblock{i}" for i in range(1, 5)}
STAGES = {f"layer{i}": f"layer{i}" for i in range(1, 5)}


def densenet(architecture: str) -> DenseNetFeatures:
    shape = DENSENETS[architecture]
    return DenseNetFeatures(shape.block_layers, shape.stem_channels, shape.growth_rate)


def network_features(network: nn.Module, names: Iterable[str], images: Tensor) -> list[Tensor]:
    """What the modules `names` of `network` put out when it sees `images`."""
    outputs: list[Tensor] = []
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
        for name in names
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return outputs


@torch.no_grad()
def compare(encoder: nn.Module, network: nn.Module, names: dict[str, str]) -> None:
    """`names`: of the encoder's outputs to those of the network's modules."""
    for dtype in (torch.float32, torch.float64):
        images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3)).to(dtype)
        theirs = network_features(network.eval().to(dtype), names.values(), images)
        ours = encoder.eval().to(dtype)(images)
        for (name, actual), expected in zip(ours.items(), theirs, strict=True):
            assert name in names and expected.std() > 0.1
            assert torch.equal(actual, expected), f"{name}, {dtype}: differs by {(actual - expected).abs().max()}"


def some_slow(architectures: Iterable[str]) -> list[object]:
    """Those that differ from others in nothing but their depth are slow."""
    deeper = ("densenet169", "densenet201", "resnet34", "resnet101", "resnet152")
    return [pytest.param(name, marks=pytest.mark.slow if name in deeper else ()) for name in architectures]


@pytest.mark.parametrize("architecture", some_slow(["densenet121", "densenet161", "densenet169", "densenet201"]))
def test_torchvisions_densenet(tmp_path: Path, architecture: str) -> None:
    torchvision = torchvision_networks.torchvision()
    network = randomise(torchvision.models.get_model(architecture, weights=None))
    torch.save(old_names(network.state_dict()), tmp_path / "weights.pth")
    encoder = densenet(architecture)
    load_encoder_weights(encoder, tmp_path / "weights.pth", architecture)
    compare(encoder, network, DENSE_BLOCKS)


@torch.no_grad()
def test_split_of_the_fourth_block(tmp_path: Path) -> None:
    """DB4a and DB4b of a ladder together have the weights of torchvision's fourth block, in its order."""
    torchvision = torchvision_networks.torchvision()
    network = randomise(torchvision.models.get_model("densenet121", weights=None)).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = create_model("ladder_densenet121", weights=tmp_path / "weights.pth").eval()
    images = torch.randn(1, 3, 64, 64)
    [block4] = network_features(network, ["features.denseblock4"], images)
    maps = model.features(images)
    # A dense block's output begins with what its first half puts out.
    assert maps["db4a"].shape[1] == 512 + 8 * 32
    assert torch.equal(maps["db4a"], block4[:, : 512 + 8 * 32])
    last, theirs = model.features.denseblock4.denselayer16, network.features.denseblock4.denselayer16
    assert torch.equal(last.conv2.weight, theirs.conv2.weight)


@pytest.mark.parametrize("architecture", some_slow(RESNETS))
def test_torchvisions_resnet(tmp_path: Path, architecture: str) -> None:
    torchvision = torchvision_networks.torchvision()
    network = randomise(torchvision.models.get_model(architecture, weights=None))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = ResNetFeatures(RESNETS[architecture])
    load_encoder_weights(encoder, tmp_path / "weights.pth", architecture)
    compare(encoder, network, STAGES)


def test_torchvisions_dilated_resnet() -> None:
    torchvision = torchvision_networks.torchvision()
    dilated = [False, True, True]
    network = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=dilated)
    encoder = ResNetFeatures(dilated=True)
    encoder.load_state_dict({key: t for key, t in randomise(network).state_dict().items() if not key.startswith("fc.")})
    compare(encoder, network, STAGES)
    with pytest.raises(ValueError, match="dilation must be 1 in a basic block"):
        ResNetFeatures(RESNETS["resnet18"], dilated=True)


@pytest.mark.parametrize("architecture", ["densenet121", "resnet18", "resnet50"])
def test_timms_networks(tmp_path: Path, architecture: str) -> None:
    timm = torchvision_networks.timm()
    network = timm.create_model(architecture, pretrained=False, num_classes=7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, -1.0, 1.5),
                (module.bias, -0.5, 0.8),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
            ):
                nn.init.uniform_(tensor, low, high)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    of_resnet = architecture in RESNETS
    encoder = ResNetFeatures(RESNETS[architecture]) if of_resnet else densenet(architecture)
    load_encoder_weights(encoder, tmp_path / "model.safetensors", architecture)
    compare(encoder, network, STAGES if of_resnet else DENSE_BLOCKS)
