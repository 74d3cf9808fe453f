"""Trainings that take a second: a tiny model on street scenes of 64x96."""

import copy
import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from support.ladder_models import NARROW, NARROW_SHAPE, TINY, TINY_SHAPE, NarrowLadder

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import Sample, StreetScenes
from ladderseg_fast.engine import Config, Interrupted, RunDirectory, TrainingResult, load_checkpoint, train
from ladderseg_fast.engine.config_tables import Layer, build_config
from ladderseg_fast.engine.learner import Learner
from ladderseg_fast.models.registry import CONFIGURATIONS, Configuration
from ladderseg_fast.nn import DENSENETS

SIZE = (64, 96)

#: By dotted key.
SHORT = {
    "model.name": TINY,
    "data.size": SIZE,
    "data.workers": 0,
    "training.steps": 5,
    "training.device": "cpu",
    "output.evaluate_every": 3,
    "output.overlays": 1,
}


class DrawnOnce(StreetScenes):
    """Street scenes that remember what they drew."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(count, SIZE, seed)
        self._drawn: dict[int, Sample] = {}

    def __getitem__(self, index: int) -> Sample:
        if index not in self._drawn:
            self._drawn[index] = super().__getitem__(index)
        return self._drawn[index]


TRAINING_SET, VALIDATION_SET = DrawnOnce(4, seed=0), DrawnOnce(2, seed=1)


@contextmanager
def scenes_drawn_once() -> Iterator[None]:
    """Region in which commands need not draw the same street scenes again: that is most of the time of short ones."""
    draw = StreetScenes.__getitem__
    drawn: dict[tuple[object, ...], Sample] = {}

    def get(scenes: StreetScenes, index: int) -> Sample:
        key = type(scenes), scenes.count, scenes.size, scenes.seed, index
        if key not in drawn:
            drawn[key] = draw(scenes, index)
        return copy.deepcopy(drawn[key])

    StreetScenes.__getitem__ = get
    try:
        yield
    finally:
        StreetScenes.__getitem__ = draw


def register_tiny_model() -> None:
    """Makes create_model(TINY) work in this process."""
    DENSENETS[TINY], DENSENETS[NARROW] = TINY_SHAPE, NARROW_SHAPE
    CONFIGURATIONS[TINY] = Configuration("tiny", NarrowLadder)


def run_command(arguments: list[str], folder: Path) -> None:
    """`ladderseg` with these arguments in `folder`, for a process of its own; what it says is in the file PID.txt."""
    os.chdir(folder)
    torch.set_num_threads(1)
    register_tiny_model()
    with open(f"{os.getpid()}.txt", "w") as file, redirect_stdout(file), redirect_stderr(file):
        sys.exit(main(arguments))


def settings(changes: Mapping[str, object] | None = None) -> Config:
    """SHORT with `changes`, by dotted key."""
    return build_config([Layer("test", SHORT), Layer("test", changes or {})])


def run_training(
    path: Path,
    changes: Mapping[str, object] | None = None,
    training_set: StreetScenes | None = None,
    stream: io.StringIO | None = None,
    **options: bool,
) -> TrainingResult:
    """Trains on four scenes, or on `training_set`, and evaluates on two others."""
    training_set, stream = training_set or TRAINING_SET, stream or io.StringIO()
    return train(settings(changes), training_set, VALIDATION_SET, RunDirectory(path), stream, **options)


@contextmanager
def signal_at(monkeypatch, batch: int, number: int = signal.SIGTERM):
    """The process gets a signal while the training works on its `batch`-th batch, counted from 1."""
    original, seen = Learner.add_batch, []

    def add_batch(self, *arguments):
        seen.append(0)
        if len(seen) == batch:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "add_batch", add_batch)
        yield


def run_interrupted(monkeypatch, path: Path, batches: list[int], changes: Mapping[str, object] | None = None) -> None:
    """Starts a training, stops it after batches[0] batches, resumes it, stops it after batches[1] more, and so on."""
    for i, batch in enumerate(batches):
        with signal_at(monkeypatch, batch):
            try:
                run_training(path, changes, resume=i > 0)
            except Interrupted:
                continue
        raise AssertionError("the training ended before it was interrupted")


def differences(one: Path, other: Path) -> list[str]:
    """Names of what differs in the weights and optimizer states of two runs' last checkpoints."""
    checkpoints = [load_checkpoint(RunDirectory(path).last) for path in (one, other)]
    values = [dict(_tensors({"state": c.state, "training": c.training_state})) for c in checkpoints]
    assert values[0].keys() == values[1].keys()
    return [name for name, value in values[0].items() if not torch.equal(value, values[1][name])]


def _tensors(value, name=""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _tensors(item, f"{name}/{i}")
