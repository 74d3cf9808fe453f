"""Whole models in safetensors files: save_pretrained and from_pretrained."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.comparison import assert_same_bits
from support.damaged_files import check_damage, cuts, flips
from support.ladder_models import CLASSES, make_images
from support.lean_equals_plain import randomise

from ladderseg_fast import LadderDenseNet, LadderResNet, SegmentationModel, create_model
from ladderseg_fast.models.pretrained import SavedModel, read_pretrained, write_pretrained


@pytest.fixture
def model() -> LadderDenseNet:
    return randomise(LadderDenseNet("tiny", CLASSES))


@pytest.fixture
def saved(model: LadderDenseNet, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    model.save_pretrained(path)
    return path


def test_the_same_model(model: LadderDenseNet, saved: Path) -> None:
    loaded = LadderDenseNet.from_pretrained(saved)
    assert not loaded.training and not loaded.pretrained and loaded.memory == "lean"
    images = make_images(1, 64, 96, torch.float32)
    assert_same_bits(loaded(images).logits, model.eval()(images).logits, "logits")
    assert LadderDenseNet.from_pretrained(str(saved), memory="plain").memory == "plain"


def test_configuration_is_in_the_metadata(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        content = json.loads(file.metadata()["ladderseg_fast"])
    assert content["class"] == "LadderDenseNet"
    assert content["options"]["num_classes"] == CLASSES


def test_options_come_back(tmp_path: Path) -> None:
    model = create_model("ladder_densenet121_single", 3, in_channels=4, frozen_bn=True).double()
    model.pretrained = True
    model.save_pretrained(tmp_path / "m")
    loaded = SegmentationModel.from_pretrained(tmp_path / "m")
    assert (loaded.num_classes, loaded.in_channels, loaded.frozen_bn, loaded.pretrained) == (3, 4, True, True)
    assert loaded.aux_head is None
    assert loaded.head.conv.weight.dtype == torch.float64


def test_saving_leaves_the_model_alone(model: LadderDenseNet, tmp_path: Path) -> None:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.to(memory_format=torch.channels_last).save_pretrained(tmp_path / "m")
    for key, tensor in SegmentationModel.from_pretrained(tmp_path / "m").state_dict().items():
        assert_same_bits(tensor, before[key], key)
    assert model.training


def test_another_class(saved: Path) -> None:
    with pytest.raises(ValueError, match="a LadderDenseNet, not a LadderResNet"):
        LadderResNet.from_pretrained(saved)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.safetensors: no such file"):
        LadderDenseNet.from_pretrained(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.999])
def test_truncated_file(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(ValueError, match="model.safetensors: not a safetensors file, or a damaged one"):
        LadderDenseNet.from_pretrained(saved)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "model.safetensors"
    torch.save({"model": Evil()}, path)
    with pytest.raises(ValueError, match="not a safetensors file"):
        LadderDenseNet.from_pretrained(path)
    assert not (tmp_path / "ran").exists()


def test_weights_of_an_encoder(tmp_path: Path) -> None:
    path = tmp_path / "densenet121.safetensors"
    save_file({"conv0.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(ValueError, match="not a model that save_pretrained wrote"):
        LadderDenseNet.from_pretrained(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "LadderViT"}, "'LadderViT', which this release does not have"),
        ({"options": {"backbone": "tiny", "num_classes": 7}}, "does not fit LadderDenseNet"),
        ({"options": {"colour": "red"}}, "does not fit LadderDenseNet"),
        ({"options": {"in_channels": 10**12}}, "does not fit LadderDenseNet"),
        ({"options": None}, "incomplete metadata"),
        ({"class": None}, "incomplete metadata"),
        ({"class": ["LadderDenseNet"]}, "incomplete metadata"),
        ({"pretrained": 1}, "incomplete metadata"),
        ({"digfst": ""}, "unknown entries digfst"),
    ],
)
def test_metadata_that_does_not_fit(saved: Path, change: dict, message: str) -> None:
    with safe_open(saved, framework="pt") as file:
        content = json.loads(file.metadata()["ladderseg_fast"])
        state = {key: file.get_tensor(key) for key in file.keys()}
    del content["digest"]
    save_file(state, saved, {"ladderseg_fast": json.dumps(content | change)})
    with pytest.raises(ValueError, match=message):
        LadderDenseNet.from_pretrained(saved)


@pytest.mark.parametrize("metadata", ["{", "[]", '{"class": "LadderDenseNet"}'])
def test_incomplete_metadata(saved: Path, metadata: str) -> None:
    save_file({"a": torch.zeros(1)}, saved, {"ladderseg_fast": metadata})
    with pytest.raises(ValueError, match="incomplete metadata"):
        LadderDenseNet.from_pretrained(saved)


def test_a_full_disk_leaves_the_former_file(
    model: LadderDenseNet, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ladderseg_fast.atomic_file.os.fsync", full)
    with pytest.raises(OSError, match="model.safetensors: No space left"):
        model.save_pretrained(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file of a few hundred bytes, of no real model."""
    path = tmp_path / "small.safetensors"
    state = {"head.conv.weight": torch.randn(2, 3, 1, 1), "norm.weight": torch.randn(3), "count": torch.tensor(3)}
    write_pretrained(path, SavedModel("LadderDenseNet", {"backbone": "tiny", "num_classes": 7}, True, state))
    return path


@pytest.mark.real_use
def test_flipped_bits_and_cuts(small: Path) -> None:
    def read(path: Path) -> dict[str, torch.Tensor]:
        saved = read_pretrained(path)
        assert (saved.class_name, saved.pretrained) == ("LadderDenseNet", True)
        assert saved.options == {"backbone": "tiny", "num_classes": 7}
        return saved.state

    data = small.read_bytes()
    refused, right = check_damage(small, read, [*flips(data, 0, every_byte_from=0), *cuts(data, 50)])
    # Right are those in `"format": "pt"` and in what the header is padded with.
    assert refused > 500 and right < 50


@pytest.mark.real_use
def test_file_of_release_0_1(model: LadderDenseNet, saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        content = json.loads(file.metadata()["ladderseg_fast"])
        state = {key: file.get_tensor(key) for key in file.keys()}
    del content["digest"]
    save_file(state, saved, {"ladderseg_fast": json.dumps(content)})
    for key, tensor in LadderDenseNet.from_pretrained(saved).state_dict().items():
        assert_same_bits(tensor, model.state_dict()[key], key)


@pytest.mark.real_use
def test_path_of_weights_in_the_metadata_is_not_opened(saved: Path, tmp_path: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        content = json.loads(file.metadata()["ladderseg_fast"])
        state = {key: file.get_tensor(key) for key in file.keys()}
    del content["digest"]
    content["options"]["weights"] = str(tmp_path / "elsewhere.pth")
    save_file(state, saved, {"ladderseg_fast": json.dumps(content)})
    assert "weights" not in LadderDenseNet.from_pretrained(saved).configuration


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("head.conv.bias", torch.full((CLASSES,), 1e300, dtype=torch.float64), "too large: head.conv.bias"),
        ("head.conv.weight", None, "of another kind"),
        ("head.norm.num_batches_tracked", torch.tensor(0.5), "of another kind: head.norm.num_batches_tracked"),
    ],
)
def test_values_that_the_model_cannot_hold(
    model: LadderDenseNet, tmp_path: Path, name: str, tensor: torch.Tensor | None, message: str
) -> None:
    state = model.state_dict()
    state[name] = state[name].to(torch.float8_e4m3fn) if tensor is None else tensor
    write_pretrained(tmp_path / "m", SavedModel("LadderDenseNet", model.configuration, False, state))
    with pytest.raises(ValueError, match=f"m: its content does not fit LadderDenseNet .*{message}"):
        LadderDenseNet.from_pretrained(tmp_path / "m")
