"""Whole models in safetensors files: save_pretrained and from_pretrained."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from comparison import assert_same_bits
from ladder_models import CLASSES, make_images
from lean_equals_plain import randomise
from safetensors import safe_open
from safetensors.torch import save_file

from ladderseg_fast import LadderDenseNet, LadderResNet, SegmentationModel, create_model


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
