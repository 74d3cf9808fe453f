"""The training loop on small street scenes."""

import io
import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_training import SIZE, DrawnOnce, run_training, settings

from ladderseg_fast.data import IGNORE_INDEX, StreetScenes
from ladderseg_fast.engine import NonFiniteError, RunDirectory, build_model, idle_batches, load_checkpoint
from ladderseg_fast.engine.learner import Learner


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def records(run, kind):
    return [record for record in map(json.loads, run.log.read_text().splitlines()) if record["kind"] == kind]


def test_loss_falls_and_everything_is_written(run):
    changes = {"training.steps": 12, "training.learning_rate": 4e-3, "output.evaluate_every": 5, "output.overlays": 2}
    result = run_training(run.path, changes, DrawnOnce(1, seed=0))
    assert result.last_loss < 0.7 * result.first_loss
    assert [evaluation.step for evaluation in result.evaluations] == [5, 10, 12]
    assert load_checkpoint(run.last).step == 12
    assert len(result.overlays) == 2
    assert all(Image.open(path).width >= 2 * 96 for path in result.overlays), "the truth beside the prediction"
    for path in (*result.overlays, run.curve):
        Image.open(path).load()
    steps = records(run, "step")
    assert [record["loss"] for record in steps] == result.losses
    assert [record["epoch"] for record in steps][:2] == [2.0, 4.0]
    assert steps[6]["learning_rate"] == pytest.approx(4e-3 * (1 - 6 / 12) ** 1.5)
    for record in steps:
        assert record["peak_memory_bytes"] > 2**20
        assert 0 <= record["data_wait_seconds"] < record["seconds"]
        assert record["images_per_second"] == pytest.approx(2 / record["seconds"], rel=0.05)
    evaluation = records(run, "evaluation")[-1]
    assert evaluation["miou"] == result.evaluations[-1].miou
    assert list(evaluation["iou"]) == list(StreetScenes.label_set.names)
    assert np.shape(evaluation["confusion"]) == (len(StreetScenes.label_set),) * 2
    assert np.trace(evaluation["confusion"]) / np.sum(evaluation["confusion"]) == evaluation["pixel_accuracy"]
    assert records(run, "end") == [{"kind": "end", "step": 12}]


def test_best_is_that_of_the_best_evaluation(run, monkeypatch):
    from ladderseg_fast.engine import evaluate

    scores = iter([0.3, 0.5, 0.4, 0.5, 0.1])

    def with_miou(*arguments):
        return type(result := evaluate(*arguments))(**{**vars(result), "miou": next(scores)})

    monkeypatch.setattr("ladderseg_fast.engine.validation.evaluate", with_miou)
    result = run_training(run.path, {"output.evaluate_every": 1})
    assert load_checkpoint(run.best).step == 2
    assert load_checkpoint(run.best).training_state is None
    assert result.best.step == 2
    assert load_checkpoint(run.path).step == 2


def test_averaged_weights_are_the_result(run):
    run_training(run.path, {"training.ema_decay": 0.5, "training.steps": 3, "output.evaluate_every": 2})
    last, best = load_checkpoint(run.last), load_checkpoint(run.best)
    raw = last.training_state["learner"]["weights"]
    assert not torch.equal(last.state["head.conv.weight"], raw["head.conv.weight"])
    if best.step == 3:
        assert all(torch.equal(best.state[name], value) for name, value in last.state.items())
    build_model(best, torch.device("cpu"))


def test_balanced_class_weights_are_logged_and_used(run):
    run_training(run.path, {"training.class_weights": "balanced", "training.steps": 1})
    weights = records(run, "start")[0]["class_weights"]
    assert len(weights) == len(StreetScenes.label_set)
    assert np.median([weight for weight in weights if weight != 1.0]) == pytest.approx(1.0, rel=0.5)
    assert load_checkpoint(run.last).training_state["learner"]["class_weights"] == pytest.approx(weights)


def test_seed_decides(tmp_path):
    one, two = (run_training(tmp_path / str(seed), {"training.seed": seed, "training.steps": 1}) for seed in (0, 1))
    assert one.losses != two.losses


def test_fine_tuning_at_another_size(tmp_path):
    first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    run_training(first.path, {"training.steps": 2, "output.evaluate_every": 1})
    changes = {"training.init_from": str(first.last), "data.size": [96, 128], "training.steps": 1}
    run_training(second.path, changes | {"training.learning_rate": 1e-30, "model.frozen_bn": True})
    before, after = load_checkpoint(first.last), load_checkpoint(second.last)
    assert (after.size, after.step) == ((96, 128), 1)
    assert torch.allclose(after.state["head.conv.weight"], before.state["head.conv.weight"], rtol=0, atol=1e-12)
    groups = after.training_state["learner"]["optimizer"]["param_groups"]
    assert groups[0]["initial_lr"] == pytest.approx(groups[1]["initial_lr"] / 5)


def test_first_weights_of_another_model(tmp_path, checkpoint):
    from ladderseg_fast.engine import save_checkpoint

    save_checkpoint(tmp_path / "other.pt", checkpoint)
    message = r"training\.init_from: .*other\.pt: its encoder is not this model's: left over: features\.denseblock1"
    with pytest.raises(ValueError, match=message):
        run_training(tmp_path / "run", {"training.init_from": str(tmp_path / "other.pt")})
    with pytest.raises(FileNotFoundError, match="none.pt: no such checkpoint"):
        run_training(tmp_path / "run", {"training.init_from": str(tmp_path / "none.pt")})
    assert not (tmp_path / "run").exists()


def infinite_at(monkeypatch, *batches):
    """The loss of the batches with these numbers, counted from 1, is infinite."""
    original, seen = Learner.add_batch, []

    def add_batch(self, images, labels):
        seen.append(0)
        return original(self, images * math.inf if len(seen) in batches else images, labels)

    monkeypatch.setattr(Learner, "add_batch", add_batch)


def test_non_finite_loss_names_step_and_images_and_keeps_the_checkpoint(run, monkeypatch):
    infinite_at(monkeypatch, 4)
    message = r"loss is nan at step 4 of 6 \(street_0_000\d, street_0_000\d\); .*the last checkpoint is .*last\.pt"
    with pytest.raises(NonFiniteError, match=message):
        run_training(run.path, {"training.steps": 6})
    assert load_checkpoint(run.last).step == 3


def test_files_of_a_batch_are_named(run, monkeypatch, tmp_path):
    class InFiles(DrawnOnce):
        def files(self, index):
            return tmp_path / f"{index}.jpg", tmp_path / f"{index}.png"

    infinite_at(monkeypatch, 1)
    with pytest.raises(NonFiniteError, match=r"step 1 of 5 \(.*\d\.jpg, .*\d\.png, .*\d\.jpg, .*\d\.png\)") as caught:
        run_training(run.path, training_set=InFiles(4, seed=0))
    assert "no checkpoint was written" in str(caught.value)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_skipped_batch_is_replaced_by_the_next(run, monkeypatch, accumulate):
    infinite_at(monkeypatch, 2, 3)
    stream = io.StringIO()
    changes = {"training.on_nonfinite": "skip", "training.accumulate": accumulate, "training.steps": 3}
    result = run_training(run.path, changes, stream=stream)
    assert len(result.losses) == 3
    assert all(map(math.isfinite, result.losses))
    skips = records(run, "skip")
    assert [(record["batch"], record["loss"]) for record in skips] == [(2, "nan"), (3, "nan")]
    assert all(re.fullmatch(r"street_0_000\d", name) for record in skips for name in record["files"])
    assert load_checkpoint(run.last).training_state["batches"] == 3 * accumulate + 2
    assert len(re.findall(r"loss is nan at step \d of 3 \(.*\); the batch is skipped", stream.getvalue())) == 2


def test_skipping_has_an_end(run, monkeypatch):
    infinite_at(monkeypatch, *range(2, 100))
    with pytest.raises(NonFiniteError, match="loss is nan at step 2 of 5"):
        run_training(run.path, {"training.on_nonfinite": "skip"})
    assert len(records(run, "skip")) == 10


def test_only_skips_in_a_row_count(run, monkeypatch):
    monkeypatch.setattr(idle_batches, "_MOST_SKIPS", 1)
    infinite_at(monkeypatch, 1, 3, 5)
    run_training(run.path, {"training.on_nonfinite": "skip", "training.steps": 3})
    assert len(records(run, "skip")) == 3


def test_broken_weights_are_not_saved(run, monkeypatch):
    original = Learner.update

    def update(self, step):
        original(self, step)
        if step == 2:
            next(self.model.parameters()).data[0] = math.nan

    monkeypatch.setattr(Learner, "update", update)
    with pytest.raises(NonFiniteError, match=r"a weight is not finite after step 3; .*last\.pt"):
        run_training(run.path, {"training.steps": 3, "output.evaluate_every": 2})
    assert load_checkpoint(run.last).step == 2


class PartlyUnlabelled(DrawnOnce):
    """The first scene has labels, no other has any."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample if index == 0 else sample._replace(labels=np.full(SIZE, IGNORE_INDEX, np.uint8))


@pytest.mark.real_use
@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_batches_without_a_labelled_pixel_are_counted(run, memory):
    stream = io.StringIO()
    changes = {"training.batch": 1, "training.epochs": 2, "model.memory": memory, "model.frozen_bn": True}
    result = run_training(run.path, changes, PartlyUnlabelled(4, seed=0), stream)
    empty = records(run, "empty")
    assert len(result.losses) == 8 and result.losses.count(0.0) == len(empty) == 6
    losses = {record["batch"]: loss for record, loss in zip(empty, [0.0] * 6)}
    assert all(result.losses[batch - 1] == loss for batch, loss in losses.items())
    assert {name for record in empty for name in record["files"]} == {f"street_0_000{i}" for i in (1, 2, 3)}
    assert stream.getvalue().count("no pixel of a batch counts in the loss (street_0_000") == 1


@pytest.mark.real_use
def test_batches_of_classes_without_weight_are_counted(run):
    weights = [0.0] * len(StreetScenes(1, SIZE).label_set)
    weights[-1] = 1.0

    class WithoutTheLast(DrawnOnce):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample._replace(labels=np.minimum(sample.labels, len(weights) - 2).astype(np.uint8))

    result = run_training(run.path, {"training.class_weights": weights}, WithoutTheLast(4, seed=0))
    assert result.losses == [0.0] * 5
    assert len(records(run, "empty")) == 5


def test_refused_before_anything_is_written(run):
    for changes, message in (
        ({"data.size": [32, 64]}, "data.size must be at least"),
        ({"training.device": "tpu9"}, "device must be"),
        ({"training.device": "meta"}, "device must be"),
        ({"training.device": "cuda:99"}, "'cuda:99' is not available"),
        ({"training.class_weights": [1.0]}, "training.class_weights must be"),
    ):
        with pytest.raises(ValueError, match=message):
            run_training(run.path, changes)
    assert not run.path.exists()


def test_does_not_overwrite_unless_told(run):
    run_training(run.path, {"training.steps": 1})
    before = run.last.read_bytes()
    with pytest.raises(FileExistsError, match="holds a checkpoint already"):
        run_training(run.path, {"training.steps": 2})
    assert run.last.read_bytes() == before
    run_training(run.path, {"training.steps": 2}, overwrite=True)
    assert load_checkpoint(run.last).step == 2
    assert [record["step"] for record in records(run, "step")] == [1, 2]


def test_settings_without_sizes_are_resolved():
    assert settings({"data.size": None}).resolved(4).data.size == (256, 512)
