"""Runs one of the step scripts in a fresh process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class StepFailed(Exception):
    """The process gave no result; the message says why, in one line."""


def run_step(script: str, arguments: list[str], preload: str | None = None) -> dict:
    """Result that `SCRIPT ARGUMENTS` reports; if it fails, its error output goes to ours.

    Args:
        script: name of a script beside this file.
        preload: a shared library to load before all others, such as another allocator.

    Raises:
        StepFailed: the process ended with an error, was killed, or ran without the library.
    """
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    environment = os.environ | ({"LD_PRELOAD": preload} if preload else {})
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode != 0:
        sys.stderr.write(process.stderr)
        raise StepFailed(failure_reason(process.returncode, process.stderr))
    if preload and "cannot be preloaded" in process.stderr:
        raise StepFailed(f"{preload} cannot be preloaded")
    return json.loads(process.stdout)


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
