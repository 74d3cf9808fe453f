"""benchmarks/best_method.py and the tables that quote it."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ...]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return tuple(importlib.import_module(name) for name in ("best_method", "in_turn", "report"))


def test_ratios_are_to_the_best_of_the_others(modules: tuple[ModuleType, ...]) -> None:
    best_method, in_turn, _ = modules
    outcomes = [
        in_turn.Outcome("plain", 1000, None, 4.0),
        in_turn.Outcome("compile", failure="out of memory"),
        in_turn.Outcome("plain-lean-loss", 800, None, 2.0),
        in_turn.Outcome("checkpoint-layer", 400, None, 5.0),
        in_turn.Outcome("lean", 100, None, 1.0),
        in_turn.Outcome("planned into 1GiB", 90, None, 0.5),
    ]
    best = best_method.Best.of(outcomes)
    assert (best.fastest.method, best.smallest.method) == ("plain-lean-loss", "checkpoint-layer")
    assert (best.time_ratio(outcomes[4]), best.memory_ratio(outcomes[4])) == ("0.50", "0.25")
    assert best.sentence == "Best other methods: plain-lean-loss in time, checkpoint-layer in memory."
    assert best_method.Best.of(outcomes[4:]) is None


def test_reserved_memory_has_a_column_where_it_is_known(modules: tuple[ModuleType, ...]) -> None:
    _, in_turn, report = modules
    setting = report.Configuration("a step", "a machine", "a procedure", "a layout", "a meter", "float32")
    on_cuda = [in_turn.Outcome("plain", 10**9, 2 * 10**9, 1.0), in_turn.Outcome("lean", failure="out of memory")]
    head, _, plain, lean = report.table(on_cuda, setting, None).splitlines()[3:7]
    assert [cell.strip() for cell in head.strip("|").split("|")][1:4] == ["peak memory", "reserved", "of the least"]
    assert [cell.strip() for cell in plain.strip("|").split("|")][1:4] == ["1.00 GB", "2.00 GB", "1.00"]
    assert lean == "| lean   | failed: out of memory |"
    assert "reserved" not in report.table([in_turn.Outcome("plain", 10**9, None, 1.0)], setting, None)
