"""What all tests share: one thread and one seed, so that a failure repeats."""

import gc
import os
import signal

# Before torch is loaded. Where tests run side by side, threads that spin while they wait take each other's processors.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from support.devices import CPU
from support.ladder_models import NARROW, NARROW_SHAPE, TINY, TINY_SHAPE

from ladderseg_fast.nn import DENSENETS

# These networks are so small that more threads only wait for each other. What is about several threads says so.
torch.set_num_threads(1)

# A shell's background jobs ignore Ctrl-C, and so would the trainings that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--devices",
        default=CPU,
        help="where the operators' suites run, separated by commas: cpu, and architectures of the emulator such as "
        "sm_61, sm_80 or, with kernels compiled by nvcc, sm_80-nvcc",
    )


def pytest_collection_finish() -> None:
    """What has been imported and collected stays to the end: the garbage collector need not look at it again, and at
    the rest less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def small_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more backbones, with few layers, beside the real ones."""
    monkeypatch.setitem(DENSENETS, TINY, TINY_SHAPE)
    monkeypatch.setitem(DENSENETS, NARROW, NARROW_SHAPE)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state.

    Without a CUDA device torch.manual_seed keeps the seed and the whole stack for later, each time.
    """
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
