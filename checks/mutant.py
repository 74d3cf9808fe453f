"""Mistakes made on purpose in copies of the package: what one is, and the processes that run tests on it."""

import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Processor time of a mutated run: so many times that of the same tests without a mistake, and so many seconds more.
_TIMES, _MORE_SECONDS = 10, 30


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    file: from the root of the repository.
    old: text that is there once.
    new: what stands there instead.
    tests: arguments of pytest for the tests that ought to find it.
    mistake: what is wrong, in a line.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    mistake: str

    def applied(self, text: str) -> str:
        """The text of the file with the mistake.

        Raises:
            ValueError: `old` is not there once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file} has {count} times, not once: {self.old}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Run:
    """A run of tests: whether all have passed, how it has ended, and the processor time that it took."""

    passed: bool
    ending: str
    seconds: float


def run_tests(package: Path, tests: tuple[str, ...], log: Path, wall_limit: float, usual: float | None = None) -> Run:
    """Runs tests of this repository, up to the first that fails, on the package in the folder `package`.

    Each run is a fork of this process, which has loaded torch and pytest, but not the package.

    Args:
        log: gets what pytest prints.
        wall_limit: seconds after which the run is ended.
        usual: processor time of the run without a mistake.
    """
    assert "ladderseg_fast" not in sys.modules, "a fork would have the package without the mistake"
    process = os.fork()
    if process == 0:
        _child(package, tests, log, usual)
    ending = time.monotonic() + wall_limit
    while True:
        found, status, used = os.wait4(process, os.WNOHANG)
        if found:
            break
        if time.monotonic() > ending:
            os.killpg(process, signal.SIGKILL)
            _, status, used = os.wait4(process, 0)
            break
        time.sleep(0.05)
    code = os.waitstatus_to_exitcode(status)
    text = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
    return Run(code == 0, text, used.ru_utime + used.ru_stime)


def _child(package: Path, tests: tuple[str, ...], log: Path, usual: float | None) -> None:
    """Runs tests, and ends the process."""
    code = 70
    try:
        os.setsid()
        if usual is not None:
            seconds = int(_TIMES * usual) + _MORE_SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        with open(log, "wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ["PYTHONPATH"] = str(package)
        sys.path.insert(0, str(package))
        os.chdir(ROOT)
        import pytest

        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=short", "--devices", "cpu", *tests]))
        sys.stdout.flush()
    finally:
        os._exit(code)
