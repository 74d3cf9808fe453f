"""What a training takes of a run, a saved model or an encoder that it starts from."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.ladder_models import TINY, NarrowLadder, narrow_design
from support.lean_equals_plain import randomise
from support.tiny_training import TRAINING_SET, run_training, settings

from ladderseg_fast import SegmentationModel
from ladderseg_fast.data import LabelSet
from ladderseg_fast.engine import save_checkpoint
from ladderseg_fast.engine.first_weights import take_what_fits
from ladderseg_fast.engine.learner import Learner

CPU = torch.device("cpu")
CLASSES = len(TRAINING_SET.label_set)
PARTS = "features, context, up1, up2, up3, up4"

pytestmark = pytest.mark.real_use


@pytest.fixture
def model() -> SegmentationModel:
    """With another number of classes than the training has."""
    return randomise(NarrowLadder(CLASSES + 2))


def learner(source: Path) -> Learner:
    return Learner(settings({"training.init_from": str(source)}).resolved(images=4), CLASSES, CPU)


def same_parts(one: torch.nn.Module, other: torch.nn.Module) -> list[str]:
    """Names of the children whose weights are those of the other's."""
    others = dict(other.named_children())
    return [name for name, child in one.named_children() if name in others and same(child, others[name])]


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    state, expected = one.state_dict(), other.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state)


def save_whole(kind: str, model: SegmentationModel, path: Path, checkpoint) -> Path:
    if kind == "checkpoint":
        path = path / "model.pt"
        labels = LabelSet(("a",) * model.num_classes, ((0, 0, 0),) * model.num_classes)
        save_checkpoint(path, replace(checkpoint, model=TINY, label_set=labels, state=model.state_dict()))
    elif kind == "safetensors":
        path = path / "model.safetensors"
        model.save_pretrained(path)
    else:
        path = path / "state.pth"
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in model.state_dict().items()}}, path)
    return path


@pytest.mark.parametrize("kind", ["checkpoint", "safetensors", "state_dict"])
def test_another_number_of_classes(tmp_path: Path, model: SegmentationModel, checkpoint, kind: str) -> None:
    """The heads start anew, and are named."""
    source = save_whole(kind, model, tmp_path, checkpoint)
    started = learner(source)
    assert same_parts(started.model, model) == PARTS.split(", ")
    shapes = rf"head.conv.bias [{CLASSES + 2}] instead of [{CLASSES}]"
    assert started.taken == f"{source}: took {PARTS}; new: head ({shapes}), aux_head (aux_{shapes})"


def test_all_fits(tmp_path: Path, checkpoint) -> None:
    model = randomise(NarrowLadder(CLASSES))
    started = learner(save_whole("safetensors", model, tmp_path, checkpoint))
    assert len(same_parts(started.model, model)) == 8
    assert started.taken.endswith(f"took {PARTS}, head, aux_head")


def test_another_model_on_the_same_backbone(tmp_path: Path, checkpoint) -> None:
    model = randomise(SegmentationModel(narrow_design(auxiliary=False, context="pyramid"), CLASSES))
    started = learner(save_whole("state_dict", model, tmp_path, checkpoint))
    assert same_parts(started.model, model) == ["features", "up1", "up2", "up3", "up4", "head"]
    assert "; new: context (" in started.taken and "aux_head (not there)" in started.taken


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_backbone_alone(tmp_path: Path, model: SegmentationModel, suffix: str) -> None:
    """In torchvision's names, with a classifier."""
    path = tmp_path / f"backbone{suffix}"
    state = {f"features.{name}": tensor for name, tensor in model.features.state_dict().items()}
    state["classifier.bias"] = torch.zeros(1000)
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    started = learner(path)
    assert same_parts(started.model, model) == ["features"]
    assert started.taken == f"{path}: took features, an encoder; everything else is new"


def test_nothing_fits(tmp_path: Path, model: SegmentationModel) -> None:
    path = tmp_path / "other.pth"
    other = {name: tensor[..., :1] if "conv0" in name else tensor for name, tensor in model.state_dict().items()}
    for state, message in (
        (other, "its encoder is not this model's: of another shape: features.conv0.weight"),
        ({"fc.weight": torch.ones(3)}, "not weights of narrow: missing: conv0.weight"),
    ):
        torch.save(state, path)
        with pytest.raises(ValueError, match=rf"training\.init_from: .*other\.pth: {message}"):
            learner(path)


def test_the_output_names_what_was_taken(tmp_path: Path, model: SegmentationModel) -> None:
    stream = io.StringIO()
    model.save_pretrained(tmp_path / "model.safetensors")
    changes = {"training.init_from": str(tmp_path / "model.safetensors"), "training.steps": 1}
    run_training(tmp_path / "run", changes, stream=stream)
    assert f"model.safetensors: took {PARTS}; new: head (" in stream.getvalue()


def test_parts_that_the_model_has_not_are_named(model: SegmentationModel) -> None:
    target = NarrowLadder(CLASSES + 2)
    state = model.state_dict() | {"depth.weight": torch.ones(2)}
    assert take_what_fits(target, state, "a.pth") == f"a.pth: took {PARTS}, head, aux_head; not used: depth"


def test_an_encoder_without_its_first_convolution(model: SegmentationModel) -> None:
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "features.conv0.weight"}
    with pytest.raises(ValueError, match="a.pth: its encoder is not this model's: missing: features.conv0.weight"):
        take_what_fits(model, state, "a.pth")
