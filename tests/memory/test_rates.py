"""The cost model's rates: measured, kept, and found again."""

from pathlib import Path

import pytest
import torch
from operator_suite import threads

from ladderseg_fast.memory.rates import load_rates, measure_rates, rates_file, store_rates
from ladderseg_fast.memory.work import Rates, Work

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDERSEG_FAST_CACHE", str(tmp_path / "cache"))


def test_defaults_say_so() -> None:
    assert load_rates(CPU).source.startswith("defaults")


def test_measured_rates_are_found_again() -> None:
    with threads(1):
        rates = measure_rates(CPU)
        for kind in ("conv1x1", "conv3x3"):
            for direction in ("forward", "backward"):
                assert 1e8 < getattr(rates, f"{kind}_{direction}") < 1e14
        assert 1e8 < rates.stem < 1e14 and 1e7 < rates.cross_entropy < 1e14
        assert 1e8 < rates.bandwidth < 1e13 and 0.0 < rates.call < 0.1
        store_rates(CPU, rates)
        assert load_rates(CPU) == rates
        assert load_rates(CPU).source.startswith("measured")
    with threads(2):  # another machine, as it were
        assert load_rates(CPU).source.startswith("defaults")


@pytest.mark.parametrize("content", ["", "[]x", '{"a": '])
def test_damaged_file(content: str) -> None:
    rates_file().parent.mkdir()
    rates_file().write_text(content)
    with pytest.raises(ValueError, match="rates.json"):
        load_rates(CPU)


def test_cost_of_a_kernel() -> None:
    rates = Rates(2e9, 1e9, 1e9, 1e9, 1e9, 1e9, bandwidth=1e9, call=0.5)
    assert rates.seconds(Work("conv1x1_forward", 4e9, 1, 0, 0)) == pytest.approx(2.5)  # the products
    assert rates.seconds(Work("conv1x1_forward", 1.0, 3 * 10**9, 0, 0)) == pytest.approx(3.5)  # the maps
