"""The cost model's rates: measured, kept, and found again."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.operator_suite import threads

from ladderseg_fast.cuda import image_cache
from ladderseg_fast.memory import rates as rates_module
from ladderseg_fast.memory.cost_model import Rates
from ladderseg_fast.memory.rates import load_rates, measure_rates, rates_file, store_rates
from ladderseg_fast.ops.backend import RecordedCuda, using
from ladderseg_fast.ops.cost import Cost

CPU, META = torch.device("cpu"), torch.device("meta")
KINDS = ("conv1x1_forward", "conv1x1_backward", "conv3x3_forward", "conv3x3_backward", "stem", "cross_entropy")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDERSEG_FAST_CACHE", str(tmp_path / "cache"))


def test_defaults_say_so() -> None:
    assert load_rates(CPU, torch.float32).source.startswith("defaults")


def test_bfloat16_has_defaults_of_its_own() -> None:
    usual, half = (load_rates(CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert half.source.endswith("and bfloat16")
    assert all(getattr(half, kind) > getattr(usual, kind) for kind in KINDS if kind != "cross_entropy")
    assert half.bandwidth == usual.bandwidth  # its maps have half the bytes


def test_measured_rates_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "_SIZE", (64, 96))  # sixteen times fewer pixels
    with threads(1):
        rates = measure_rates(CPU, torch.float32)
        for kind in KINDS:
            assert 1e7 < getattr(rates, kind) < 1e14, kind
        assert 1e8 < rates.bandwidth < 1e13 and 0.0 < rates.call < 0.1 and not rates.asynchronous
        store_rates(CPU, torch.float32, rates)
        assert load_rates(CPU, torch.float32) == rates
        assert load_rates(CPU, torch.float32).source.startswith("measured")
        assert load_rates(CPU, torch.float64).source.startswith("defaults")
    with threads(2):  # another machine, as it were
        assert load_rates(CPU, torch.float32).source.startswith("defaults")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_kernel_on_cuda_is_measured(dtype: torch.dtype) -> None:
    with using(RecordedCuda(61, 20)):  # the calls are those on CUDA, and nothing is launched
        rates = measure_rates(META, dtype)
    assert all(getattr(rates, kind) > 0.0 for kind in KINDS)
    assert rates.bandwidth > 0.0 and rates.call > 0.0 and rates.asynchronous


@pytest.mark.parametrize("content", ["", "[]x", '{"a": '])
def test_damaged_file(content: str) -> None:
    rates_file().parent.mkdir()
    rates_file().write_text(content)
    with pytest.raises(ValueError, match="rates.json"):
        load_rates(CPU, torch.float32)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan, "1e9", True])
def test_rates_that_cannot_be(wrong: object) -> None:
    rates = Rates.default("cpu", 1)
    store_rates(CPU, torch.float32, replace(rates, bandwidth=wrong))
    with pytest.raises(ValueError, match=r"rates\.json: not a file of .*bandwidth must be a positive number"):
        load_rates(CPU, torch.float32)


def test_rates_of_a_cuda_device() -> None:
    cuda, rates = torch.device("cuda"), Rates.default("cuda", 1)
    store_rates(cuda, torch.float16, rates)
    assert load_rates(cuda, torch.float16) == rates
    assert load_rates(cuda, torch.float32).source.startswith("defaults")


def test_no_directory_to_keep_rates_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home directory")

    monkeypatch.setattr(image_cache, "directory", homeless)
    assert load_rates(CPU, torch.float32).source.startswith("defaults")
    with pytest.raises(OSError, match="no home directory to keep rates in; LADDERSEG_FAST_CACHE may name another"):
        store_rates(CPU, torch.float32, Rates.default("cpu", 1))


def test_cost_of_a_kernel() -> None:
    rates = Rates(2e9, 1e9, 1e9, 1e9, 1e9, 1e9, bandwidth=1e9, call=0.5)
    assert rates.seconds(Cost("conv1x1_forward", 4e9, 1)) == pytest.approx(2.5)  # the products
    assert rates.seconds(Cost("conv1x1_forward", 1.0, 3 * 10**9)) == pytest.approx(3.5)  # the maps


def test_cost_of_a_kernel_that_nobody_waits_for() -> None:
    rates = Rates(2e9, 1e9, 1e9, 1e9, 1e9, 1e9, bandwidth=1e9, call=0.5, asynchronous=True)
    assert rates.seconds(Cost("conv1x1_forward", 4e9, 1)) == pytest.approx(2.0)
    assert rates.seconds(Cost("conv1x1_forward", 1.0, 1)) == pytest.approx(0.5)  # the host's
