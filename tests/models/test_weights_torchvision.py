"""Our encoders compute what torchvision's and timm's networks compute on the same weights, bit for bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision_networks
from encoder_checkpoints import old_names
from lean_equals_plain import randomise
from safetensors.torch import save_file
from torch import Tensor, nn

from ladderseg_fast.models.weights import load_encoder_weights
from ladderseg_fast.nn import DenseNetFeatures

ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "densenet121": lambda: DenseNetFeatures((6, 12, 24, 16)),
    "densenet161": lambda: DenseNetFeatures((6, 12, 36, 24), stem_channels=96, growth_rate=48),
    "densenet169": lambda: DenseNetFeatures((6, 12, 32, 32)),
    "densenet201": lambda: DenseNetFeatures((6, 12, 48, 32)),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Hundreds of small operations: threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def densenet_features(encoder: DenseNetFeatures, images: Tensor) -> list[Tensor]:
    """Outputs of the four blocks."""
    outputs, features = [], encoder.stem(images)
    for i in range(1, 5):
        features = getattr(encoder, f"denseblock{i}")(features)
        outputs.append(features)
        if i < 4:
            features = getattr(encoder, f"transition{i}")(features)
    return outputs


def network_features(network: nn.Module, names: list[str], images: Tensor) -> list[Tensor]:
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


BLOCKS = [f"features.denseblock{i}" for i in range(1, 5)]


@torch.no_grad()
def compare(network: nn.Module, encoder: nn.Module) -> None:
    for dtype in (torch.float32, torch.float64):
        images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3)).to(dtype)
        expected = network_features(network.eval().to(dtype), BLOCKS, images)
        for name, ours, theirs in zip(BLOCKS, densenet_features(encoder.eval().to(dtype), images), expected, strict=True):
            assert theirs.std() > 0.1
            assert torch.equal(ours, theirs), f"{name} {dtype}: differs by {(ours - theirs).abs().max()}"


@pytest.mark.parametrize("architecture", ENCODERS)
def test_torchvisions_densenet(tmp_path: Path, architecture: str) -> None:
    torchvision = torchvision_networks.torchvision()
    network = randomise(torchvision.models.get_model(architecture, weights=None))
    torch.save(old_names(network.state_dict()), tmp_path / "weights.pth")
    encoder = ENCODERS[architecture]()
    load_encoder_weights(encoder, tmp_path / "weights.pth", architecture)
    compare(network, encoder)


def test_timms_densenet(tmp_path: Path) -> None:
    timm = torchvision_networks.timm()
    network = timm.create_model("densenet121", pretrained=False, num_classes=7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.0, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.8)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    encoder = ENCODERS["densenet121"]()
    load_encoder_weights(encoder, tmp_path / "model.safetensors", "densenet121")
    compare(network, encoder)
