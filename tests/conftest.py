"""What all tests share: two threads and one seed, so that a failure repeats; and the emulation, if asked for."""

import os
import signal

# Before torch is loaded. Where tests run side by side, threads that spin while they wait take each other's processors.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from emulator import emulation
from support.ladder_models import TINY, TINY_SHAPE

from ladderseg_fast.nn import DENSENETS

torch.set_num_threads(2)

# A shell's background jobs ignore Ctrl-C, and so would the trainings that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if emulation.CHOICE:
    emulation.start()


def pytest_report_header() -> str | None:
    if emulation.CHOICE:
        return f"CUDA kernels on the CPU: emulating {emulation.CHOICE}, seed {emulation.SEED}"
    return None


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more backbone, with few layers, beside the real ones."""
    monkeypatch.setitem(DENSENETS, TINY, TINY_SHAPE)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
