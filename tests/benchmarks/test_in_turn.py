"""benchmarks/in_turn.py: the estimate of the time left."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("in_turn")


@pytest.mark.real_use
def test_time_left(in_turn: ModuleType) -> None:
    pace = in_turn.Pace(["plain", "lean", "plain", "lean"])
    pace.done("plain", 10.0, failed=False)
    assert pace.left() == 30.0
    pace.done("lean", 2.0, failed=False)
    assert pace.left() == 12.0
    pace.done("plain", 20.0, failed=True)
    assert pace.left() == 2.0
    pace.done("lean", 2.0, failed=False)
    assert pace.left() == 0.0


@pytest.mark.real_use
def test_what_fails_has_no_more_turns(in_turn: ModuleType) -> None:
    pace = in_turn.Pace(["plain", "lean"] * 3)
    pace.done("plain", 4.0, failed=True)
    assert pace.left() == 12.0
