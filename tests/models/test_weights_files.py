"""Files of weights that cannot be read are refused by name, and none of them runs code."""

import argparse
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.damaged_files import check_damage, cuts, flips
from support.encoder_checkpoints import Trap, network_state, tiny_densenet

from ladderseg_fast.models.weights import load_encoder_weights
from ladderseg_fast.models.weights.files import read_state_dict


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(network_state(tiny_densenet(), "densenet121"), path)
    return path


def refused(path: Path, match: str) -> None:
    with pytest.raises(ValueError, match=f"{path.name}: ({match})") as caught:
        load_encoder_weights(tiny_densenet(), path, "densenet121")
    assert "\n" not in str(caught.value)


def truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.5, 0.999])
def test_truncated(path: Path, share: float) -> None:
    truncate(path, share)
    refused(path, "not a checkpoint, or a damaged one")


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.1, 0.5, 0.999])
def test_truncated_file_of_the_first_torch_format(path: Path, share: float) -> None:
    state = network_state(tiny_densenet(), "densenet121")
    torch.save(state, path, _use_new_zipfile_serialization=False)
    truncate(path, share)
    refused(path, "not a checkpoint, or a damaged one")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_truncated_safetensors(tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.safetensors"
    save_file(network_state(tiny_densenet(), "densenet121"), path)
    truncate(path, share)
    refused(path, "not a safetensors file, or a damaged one")


def test_one_wrong_bit_in_a_weight(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(path, r"damaged checkpoint \(checksum of ")


@pytest.mark.parametrize("name", ["weights.pth", "model.safetensors"])
def test_something_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("<html><body>404: not found</body></html>\n" * 9)
    refused(path, "not a (checkpoint|safetensors file), or a damaged one")


def test_archive_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", conv0=np.ones(3))
    refused(tmp_path / "weights.npz", "not a checkpoint, or a damaged one")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (torch.ones(3), "holds no state_dict but an object of type Tensor"),
        ({"state_dict": {"conv0.weight": [1.0]}}, "not a state_dict, 'conv0.weight' is of type list"),
        ({"epoch": 3, "weights": {}}, "not a state_dict, 'epoch' is of type int"),
        ({3: torch.ones(3)}, "not a state_dict, 3 is of type Tensor"),
        ({}, "not weights of densenet121: missing: conv0.weight, "),
    ],
)
def test_no_state_dict(path: Path, content: object, match: str) -> None:
    torch.save(content, path)
    refused(path, match)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_run(path: Path, zipped: bool) -> None:
    sprung = path.with_name("sprung")
    torch.save({"state_dict": {}, "trap": Trap(sprung)}, path, _use_new_zipfile_serialization=zipped)
    refused(path, "holds .*; only tensors are read, since making other objects may run code")
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists(), "the trap does not work"


def test_plain_pickle_runs_no_code(path: Path) -> None:
    sprung = path.with_name("sprung")
    path.write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    refused(path, "")
    assert not sprung.exists()


def test_settings_in_a_training_checkpoint(path: Path) -> None:
    torch.save({"state_dict": {}, "args": argparse.Namespace(lr=0.1)}, path)
    refused(path, "holds argparse.Namespace; only tensors are read")


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "weights.pth", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path.name}: no such file of weights"):
            load_encoder_weights(tiny_densenet(), path, "densenet121")


@pytest.mark.real_use
def test_flipped_bits_and_cuts(path: Path) -> None:
    torch.save({"conv0.weight": torch.randn(4, 3, 1, 1), "norm0.weight": torch.randn(4)}, path)
    data = path.read_bytes()
    damaged = [*flips(data, 100, every_byte_from=data.index(b"PK\x01\x02")), *cuts(data, 50)]
    refused, right = check_damage(path, read_state_dict, damaged)
    assert refused > 150 and right > 20


@pytest.mark.real_use
def test_record_that_is_packed(path: Path) -> None:
    """Torch's reader unpacks such records, but does not compare their checksums."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    refused(path, "damaged checkpoint, or not of torch.save")


@pytest.mark.real_use
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (torch.full((8, 3, 7, 7), 1e300, dtype=torch.float64), "too large: conv0.weight for torch.float32"),
        (torch.ones(8, 3, 7, 7).to(torch.float8_e5m2), "of another kind: conv0.weight torch.float8_e5m2"),
    ],
    ids=["1e300", "float8"],
)
def test_values_that_the_encoder_cannot_hold(path: Path, suffix: str, tensor: torch.Tensor, match: str) -> None:
    path = path.with_suffix(suffix)
    state = network_state(tiny_densenet(), "densenet121") | {"features.conv0.weight": tensor}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    refused(path, f"not weights of densenet121: {match}")


@pytest.mark.real_use
def test_tensor_without_values(path: Path) -> None:
    torch.save({"conv0.weight": torch.ones(8, 3, 7, 7, device="meta")}, path)
    refused(path, "conv0.weight is on the meta device, without values")
