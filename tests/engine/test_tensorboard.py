"""TensorBoard events, where the package is installed; a clear error where it is not."""

import sys

import pytest
from support.tiny_training import run_interrupted, run_training

from ladderseg_fast.engine import RunDirectory
from ladderseg_fast.models.weights import MissingPackageError


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    message = r'output\.tensorboard needs the package tensorboard: pip install "ladderseg_fast\[tensorboard\]"'
    with pytest.raises(MissingPackageError, match=message):
        run_training(tmp_path / "run", {"output.tensorboard": True})
    assert not (tmp_path / "run").exists()


def test_events_of_a_run_that_was_resumed(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    changes = {"output.tensorboard": True, "output.checkpoint_every": 1}
    run_interrupted(monkeypatch, tmp_path / "run", [2], changes)
    result = run_training(tmp_path / "run", changes, resume=True)
    events = accumulator.EventAccumulator(str(RunDirectory(tmp_path / "run").tensorboard))
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4, 5]
    assert [event.value for event in losses] == pytest.approx(result.losses)
    assert [event.step for event in events.Scalars("validation/miou")] == [3, 5]
