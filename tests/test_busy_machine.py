"""Threads that wait for each other, where other programs want the processors too."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real_use

#: Runs small kernels until waiting threads sleep early, or for so many seconds, while each processor has another
#: program to run.
PROGRAM = """
import os, subprocess, sys, time, torch
from ladderseg_fast import _core, ops
torch.set_num_threads(max(2, torch.get_num_threads()))
x = torch.randn(1, 64, 45, 60).contiguous(memory_format=torch.channels_last)
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
try:
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end and not _core.waits_asleep():
        ops.channel_statistics(x)
finally:
    for other in others:
        other.kill()
        other.wait()
print(_core.waits_asleep())
"""


def sleeps_within(seconds: float, **environment: str) -> bool:
    variables = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-c", PROGRAM, str(seconds)]
    result = subprocess.run(command, env=variables | environment, capture_output=True, text=True, check=True)
    return result.stdout == "True\n"


def test_waiting_threads_sleep() -> None:
    """They spun for milliseconds in every kernel, while the thread that they waited for had no processor."""
    assert sleeps_within(60.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [{"OMP_WAIT_POLICY": "passive"}, {"GOMP_SPINCOUNT": "100000"}],
    ids=str,
)
def test_a_choice_is_respected(choice: dict[str, str]) -> None:
    assert not sleeps_within(1.5, **choice)
