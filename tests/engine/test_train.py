"""The training loop on small street scenes."""

import io
import json
import math
import os
import signal
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from ladderseg_fast.data import IGNORE_INDEX, StreetScenes
from ladderseg_fast.engine import Interrupted, NonFiniteError, RunDirectory, TrainingConfig, load_checkpoint, train

#: By its name: the package's attribute `train` is the function.
module = import_module("ladderseg_fast.engine.train")
SIZE = (64, 96)


def settings(**changes):
    defaults = {"data": "street", "backbone": "densenet121", "size": SIZE, "batch": 2, "steps": 3, "eval_every": 2}
    return TrainingConfig(**(defaults | {"memory": "plain"} | changes))


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create(overwrite=False)
    return directory


def start(run, training_set=None, **changes):
    training_set = training_set or StreetScenes(4, SIZE, seed=0)
    return train(settings(**changes), training_set, StreetScenes(3, SIZE, seed=1), run, io.StringIO())


def records(run, kind):
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_loss_falls_and_everything_is_written(run):
    result = start(run, training_set=StreetScenes(1, SIZE), steps=12, eval_every=5)
    assert result.last_loss < 0.7 * result.first_loss
    assert [step for step, _ in result.evaluations] == [5, 10, 12]
    assert load_checkpoint(run.checkpoint).step == 12
    assert len(result.overlays) == 3
    for path in (*result.overlays, run.curve):
        Image.open(path).load()
    steps = records(run, "step")
    assert [record["loss"] for record in steps] == result.losses
    assert steps[6]["learning_rate"] == pytest.approx(5e-4 * (1 - 6 / 12) ** 1.5)
    assert all(record["peak_memory_bytes"] > 2**20 and record["seconds"] > 0 for record in steps)
    evaluation = records(run, "evaluation")[-1]
    assert evaluation["miou"] == result.evaluations[-1][1].miou
    assert set(evaluation["iou"]) == set(StreetScenes.label_set.names)


def test_learning_rate_reaches_the_optimizer(run, monkeypatch):
    rates = []
    original = torch.optim.Adam.step

    def step(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    start(run, steps=2, learning_rate=1e-3)
    assert rates == pytest.approx([1e-3, 1e-3 * 0.5**1.5])


def test_seed_decides_and_workers_do_not(tmp_path):
    losses = []
    for i, changes in enumerate(({}, {"workers": 1}, {"seed": 1})):
        directory = RunDirectory(tmp_path / str(i))
        directory.create(overwrite=False)
        losses.append(start(directory, steps=2, **changes).losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-5)


def test_non_finite_loss_names_the_step_and_keeps_the_checkpoint(run, monkeypatch):
    original = module.LadderLoss.forward

    def forward(self, output, labels):
        loss = original(self, output, labels)
        return loss * math.inf if len(records(run, "step")) == 3 else loss

    monkeypatch.setattr(module.LadderLoss, "forward", forward)
    message = r"loss is inf at step 4 of 6; .* the last checkpoint is .*checkpoint\.pt"
    with pytest.raises(NonFiniteError, match=message):
        start(run, steps=6, eval_every=2)
    assert load_checkpoint(run.checkpoint).step == 2


def test_broken_parameters_are_not_saved(run, monkeypatch):
    original = torch.optim.Adam.step

    def step(self, *arguments):
        original(self, *arguments)
        if len(records(run, "step")) == 2:
            self.param_groups[0]["params"][7].data[0] = math.nan

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    with pytest.raises(NonFiniteError, match="a parameter is not finite after step 3"):
        start(run, steps=3, eval_every=2)
    assert load_checkpoint(run.checkpoint).step == 2


def test_batch_without_any_class_is_told_apart(run):
    class Unlabelled(StreetScenes):
        def __getitem__(self, index):
            return super().__getitem__(index)._replace(labels=np.full(SIZE, IGNORE_INDEX, np.uint8))

    with pytest.raises(NonFiniteError, match="loss is nan at step 1 of 3; no pixel of its images has a class"):
        start(run, training_set=Unlabelled(2, SIZE))
    assert not run.checkpoint.exists()


@pytest.mark.parametrize("moment", ["step", "evaluation"])
def test_interrupt_saves_a_checkpoint(run, monkeypatch, moment):
    def interrupt():
        if len(records(run, "step")) >= 2:
            os.kill(os.getpid(), signal.SIGINT)

    name = "peak_memory" if moment == "step" else "evaluate"
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments: (interrupt(), original(*arguments))[1])
    expected = 3 if moment == "step" else 2
    with pytest.raises(Interrupted, match=rf"interrupted at step {expected} of 5; saved .*checkpoint\.pt"):
        start(run, steps=5, eval_every=2 if moment == "evaluation" else 5)
    assert load_checkpoint(run.checkpoint).step == expected
    assert records(run, "evaluation") == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"eval_every": 0}, "eval_every must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"size": (64, 63)}, "size must be at least 64x64, got 64x63"),
        ({"size": (124, 64), "batch": 1}, "batch 1 at 124x64 leaves one pixel"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number"),
    ],
)
def test_rejects_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu9", "device must be"), ("meta", "device must be"), ("cuda:99", "'cuda:99' is not available")],
)
def test_rejects_device(run, device, message):
    with pytest.raises(ValueError, match=message):
        start(run, device=device)
