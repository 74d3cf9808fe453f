"""The meters of peak memory see what a process takes and gives back between start and stop."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

MIB = 2**20


@pytest.fixture
def peak_memory() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "peak_memory.py"
    spec = importlib.util.spec_from_file_location("peak_memory", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("meter_name", ["KernelPeak", "SampledPeak"])
def test_a_freed_tensor_counts(peak_memory: ModuleType, meter_name: str) -> None:
    # Takes more before the start than after it: what was in use earlier must not count.
    torch.ones(400 * MIB // 4).sum()
    meter = getattr(peak_memory, meter_name)()
    try:
        meter.start()
    except OSError as error:
        pytest.skip(f"no such meter on this system: {error}")
    for _ in range(5):
        torch.ones(200 * MIB // 4).sum()
    assert 190 * MIB < meter.stop() < 260 * MIB


def test_sampling_takes_over_where_the_record_cannot_be_reset(
    peak_memory: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: object) -> None:
        raise PermissionError("clear_refs")

    monkeypatch.setattr(peak_memory.KernelPeak, "start", denied)
    meter = peak_memory.started_meter(torch.device("cpu"))
    meter.stop()
    assert isinstance(meter, peak_memory.SampledPeak)
    assert "sampled" in meter.how
