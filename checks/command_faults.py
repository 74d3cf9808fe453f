"""`ladderseg train` as a process, which is interrupted, or meets another one: part of training_faults.py."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from support.tiny_training import differences

from ladderseg_fast.engine import RunDirectory, load_checkpoint

_TESTS = Path(__file__).parents[1] / "tests"

#: The command with the tiny model, on one thread. What a shell starts in the background ignores interrupts.
_CODE = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv.pop(1))
import torch
from support.tiny_training import register_tiny_model
torch.set_num_threads(1)
register_tiny_model()
from ladderseg_fast.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_STEPS = 30
_OPTIONS = f"--model tiny --size 64x96 --steps {_STEPS} --eval-every 15 --workers 1 --set output.overlays=1".split()
_TIMEOUT = 600


class _Training:
    """A process at work in a directory."""

    def __init__(self, directory: Path) -> None:
        self.run = RunDirectory(directory)
        arguments = ["--resume", str(directory)] if self.run.config.exists() else [*_OPTIONS, "--out", str(directory)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(_TESTS), "train", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_steps(self, count: int) -> None:
        """Waits until the log has so many more lines, or the process ends."""
        before = self._lines()
        while self._lines() < before + count and self.process.poll() is None:
            time.sleep(0.002)

    def _lines(self) -> int:
        return self.run.log.read_bytes().count(b"\n") if self.run.log.exists() else 0

    def children(self) -> list[int]:
        return [int(pid) for pid in _read(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()]

    def end(self) -> tuple[int, str]:
        """Exit status, and the last line of stderr."""
        _, errors = self.process.communicate(timeout=_TIMEOUT)
        return self.process.returncode, (errors.strip().splitlines() or [""])[-1]


def check_command(directory: Path, times: int, seed: int) -> Iterator[str]:
    """Yields problems of trainings that are interrupted `times` times, lose a loader process, and meet another one."""
    generator = random.Random(seed)
    straight = _Training(directory / "straight")
    status, line = straight.end()
    if status:
        yield f"a training in peace: status {status}: {line}"
        return
    for number in range(times):
        path = directory / f"run{number}"
        for kind in ("once", "twice", "loader"):
            yield from _disturbed(path, kind, generator)
        yield from _second_training(path)
        # The lock of a process on another machine, which has gone without removing it.
        holder = {"pid": 1, "host": f"not-{socket.gethostname()}", "started": "2020-01-01 00:00:00 +0000"}
        (path / ".ladderseg.lock").write_text(json.dumps(holder) + "\n")
        status, line = _Training(path).end()
        if status:
            yield f"resumed to the end: status {status}: {line}"
        elif differences(path, directory / "straight"):
            yield "resumed to the end: other bits"


def _disturbed(path: Path, kind: str, generator: random.Random) -> Iterator[str]:
    training = _Training(path)
    training.wait_for_steps(generator.randint(2, 4))
    time.sleep(generator.uniform(0.0, 0.2))
    children = training.children()
    if kind == "loader":
        for child in children:
            _signal(child, signal.SIGKILL)
    else:
        for _ in range(1 if kind == "once" else 2):
            training.process.send_signal(signal.SIGINT)
            time.sleep(0.001)
    status, line = training.end()
    expected = {"once": (130, "saved "), "twice": (130, "; "), "loader": (2, "saved ")}[kind]
    if status != expected[0] or expected[1] not in line or str(path) not in line:
        yield f"{kind}: status {status}: {line}"
    deadline = time.monotonic() + 30.0
    while any(Path(f"/proc/{child}").exists() for child in children):
        if time.monotonic() > deadline:
            yield f"{kind}: loader processes are left"
            break
        time.sleep(0.05)
    last = RunDirectory(path).last
    if last.exists():
        load_checkpoint(last)


def _second_training(path: Path) -> Iterator[str]:
    first = _Training(path)
    first.wait_for_steps(2)
    status, line = _Training(path).end()
    if status != 2 or f"in use by process {first.process.pid} on {socket.gethostname()}" not in line:
        yield f"a second training: status {status}: {line}"
    first.process.send_signal(signal.SIGTERM)
    status, line = first.end()
    # After its last step it does not wait for signals any more.
    ended = status == -signal.SIGTERM and load_checkpoint(RunDirectory(path).last).step == _STEPS
    if status not in (0, 143) and not ended:
        yield f"the first of two trainings: status {status}: {line}"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
