"""benchmarks/collectives.py: what it counts is what a step calls, and the planner calls nothing."""

import importlib
import threading
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.ladder_models import make_images, make_labels, make_model
from torch import nn

from ladderseg_fast import memory

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: Layers of the tiny ladder's blocks, and those whose statistics or corrections come besides.
_LAYERS, _BLOCKS, _TRANSITIONS_UP = 6, 5, 4


@pytest.fixture
def collectives(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("collectives")


def test_calls_of_a_step(collectives: ModuleType) -> None:
    """Forward, a channel's statistics are exchanged once, not once per reader; backward, its correction is."""
    images, labels = make_images(2, 64, 64, torch.float32), make_labels(2, 64, 64)
    plain = collectives.of_plain(make_model(dtype=torch.float32), images)
    lean = collectives.of_lean(make_model(dtype=torch.float32), images, labels)
    assert plain.calls["all_gather"] == plain.calls["all_reduce"]
    # The stem, the inputs of the blocks, two for each layer, the context's hidden map and result, the ladder, the head.
    assert lean.calls["all_gather"] == 1 + _BLOCKS + 2 * _LAYERS + 2 + _TRANSITIONS_UP + 1
    assert lean.bytes.total() < plain.bytes.total()


@pytest.mark.parametrize("group", [None, threading.Lock()])  # like a process group, a lock has no copy
def test_the_planner_calls_nothing(collectives: ModuleType, group: object) -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(make_model(dtype=torch.float32), group)
    with collectives.counted(stand_in=True) as found:
        estimate = memory.estimate(model, (2, 3, 64, 64))
    assert found.calls.total() == 0
    assert estimate == memory.estimate(make_model(dtype=torch.float32), (2, 3, 64, 64))
    assert all(
        group is None or each.process_group is group for each in model.modules() if hasattr(each, "process_group")
    )
