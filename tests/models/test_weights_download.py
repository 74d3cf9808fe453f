"""weights="imagenet": torchvision's cache and errors, or timm's, without a network."""

import copy
import sys
import urllib.error
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support import torchvision_networks
from support.encoder_checkpoints import ENCODERS, Trap, network_state, old_names, tiny_densenet

from ladderseg_fast.models.weights import MissingPackageError, load_encoder_weights


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package is installed."""
    for package in ("torchvision", "timm"):
        monkeypatch.setitem(sys.modules, package, None)


def install(package: str, source: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a `package` of the one file `source` in place of what is installed."""
    (path / f"{package}.py").write_text(source)
    # Set first, so that what the source makes of it is forgotten afterwards, even if nothing was there before.
    monkeypatch.setitem(sys.modules, package, None)
    del sys.modules[package]
    monkeypatch.syspath_prepend(path)


@pytest.fixture
def torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The real one, with an empty cache and no network."""

    def unreachable(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return torchvision_networks.torchvision()


def cached(torchvision: ModuleType, architecture: str, home: Path) -> Path:
    """Where torch.hub keeps what it has downloaded."""
    url = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1.url
    path = home / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("architecture", ENCODERS)
def test_torchvisions_cache(architecture: str, torchvision: ModuleType, tmp_path: Path) -> None:
    source, target = ENCODERS[architecture](seed=1), ENCODERS[architecture](seed=2)
    torch.save(old_names(network_state(source, architecture)), cached(torchvision, architecture, tmp_path))
    load_encoder_weights(target, "imagenet", architecture)
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_torchvision_without_network(torchvision: ModuleType) -> None:
    target = tiny_densenet()
    before = copy.deepcopy(target.state_dict())
    message = "torchvision could not get the ImageNet weights of densenet169 .*no route to host.*give weights= a file"
    with pytest.raises(OSError, match=message):
        load_encoder_weights(target, "imagenet", "densenet169")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_damaged_cache(torchvision: ModuleType, tmp_path: Path) -> None:
    cached(torchvision, "densenet121", tmp_path).write_bytes(b"half a download")
    with pytest.raises(OSError, match="torchvision could not get the ImageNet weights of densenet121"):
        load_encoder_weights(tiny_densenet(), "imagenet", "densenet121")


def test_no_code_in_the_cache_is_run(torchvision: ModuleType, tmp_path: Path) -> None:
    torch.save({"trap": Trap(tmp_path / "sprung")}, cached(torchvision, "densenet121", tmp_path))
    with pytest.raises(OSError, match=r"densenet121 \(UnpicklingError: "):
        load_encoder_weights(tiny_densenet(), "imagenet", "densenet121")
    assert not (tmp_path / "sprung").exists()


def test_what_was_downloaded_has_to_fit(torchvision: ModuleType, tmp_path: Path) -> None:
    torch.save({"features.conv0.weight": torch.ones(3)}, cached(torchvision, "densenet121", tmp_path))
    with pytest.raises(ValueError, match="imagenet weights: not weights of densenet121: missing: norm0.weight"):
        load_encoder_weights(tiny_densenet(), "imagenet", "densenet121")


def test_neither_is_installed(absent: None) -> None:
    with pytest.raises(MissingPackageError, match="neither is installed: pip install torchvision, or give weights="):
        load_encoder_weights(tiny_densenet(), "imagenet", "densenet121")


def test_torchvision_of_another_torch(absent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", tmp_path, monkeypatch)
    message = r"torchvision, which is installed but cannot be imported \(RuntimeError: operator torchvision::nms does"
    with pytest.raises(MissingPackageError, match=message):
        load_encoder_weights(tiny_densenet(), "imagenet", "densenet121")


TIMM = """
from support.encoder_checkpoints import network_state, tiny_densenet
import torch

class Network(torch.nn.Module):
    def state_dict(self):
        return network_state(tiny_densenet(seed=1), "densenet121")

def create_model(name, pretrained):
    assert name == "densenet121.tv_in1k" and pretrained
    return Network()
"""


def test_timm_where_torchvision_is_not(absent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("timm", TIMM, tmp_path, monkeypatch)
    target = tiny_densenet(seed=2)
    load_encoder_weights(target, "imagenet", "densenet121")
    assert torch.equal(target.conv0.weight, tiny_densenet(seed=1).conv0.weight)


def test_timm_without_network(absent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def create_model(name, pretrained):\n    raise ConnectionError('the hub is out of reach\\nmore')"
    install("timm", source, tmp_path, monkeypatch)
    message = r"timm could not get the ImageNet weights of densenet121 \(ConnectionError: the hub is out of reach\); "
    with pytest.raises(OSError, match=message):
        load_encoder_weights(tiny_densenet(), "imagenet", "densenet121")


def test_timm_knows_the_names() -> None:
    """The tags of torchvision's weights exist under the names that the download asks for."""
    timm = torchvision_networks.timm()
    densenets, resnets = ("121", "161", "169", "201"), ("18", "34", "50", "101", "152")
    for architecture in (*(f"densenet{depth}" for depth in densenets), *(f"resnet{depth}" for depth in resnets)):
        assert timm.models.get_pretrained_cfg(f"{architecture}.tv_in1k").has_weights
