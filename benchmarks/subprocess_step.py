"""Run train_step.py in a fresh process."""

import json
import signal
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).with_name("train_step.py")


class StepFailed(Exception):
    """The process gave no result; the message says why, in one line."""


def run_step(arguments: list[str]) -> dict:
    """What `train_step.py ARGUMENTS` reports; if it fails, its error output is passed on to ours.

    Raises:
        StepFailed: it ended with an error or was killed.
    """
    process = subprocess.run([sys.executable, str(_SCRIPT), *arguments], capture_output=True, text=True, check=False)
    if process.returncode == 0:
        return json.loads(process.stdout)
    sys.stderr.write(process.stderr)
    raise StepFailed(failure_reason(process.returncode, process.stderr))


def failure_reason(returncode: int, stderr: str) -> str:
    """One line from the exit status and the traceback of a process that failed."""
    if returncode == -signal.SIGKILL:
        return "killed by the system, most likely for lack of memory"
    if returncode < 0:
        return f"ended by signal {signal.Signals(-returncode).name}"
    if "OutOfMemoryError" in stderr or "can't allocate memory" in stderr or "\nMemoryError" in stderr:
        return "out of memory"
    # An exception's message may have many lines; the first unindented one after the traceback names it.
    traceback = stderr.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    lines = [line for line in traceback if line.strip() and not line.startswith(" ")]
    return lines[0].strip() if lines else f"exit status {returncode}"
