"""Runs one of the step scripts in a fresh process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class StepFailed(Exception):
    """The process gave no result; the message says why, in one line."""


def run_step(
    script: str,
    arguments: list[str],
    preload: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> dict:
    """Result that `SCRIPT ARGUMENTS` reports in its last line; if it fails, its error output goes to ours.

    Args:
        script: name of a script beside this file.
        preload: a shared library to load before all others, such as another allocator.
        environment: variables to set.
        timeout: seconds after which the process and those that it started are killed.

    Raises:
        StepFailed: the process ended with an error, was killed, took too long, or ran without the library.
    """
    command = [sys.executable, str(Path(__file__).parent / script), *arguments]
    variables = os.environ | dict(environment or {}) | ({"LD_PRELOAD": preload} if preload else {})
    # In a session of its own, so that all processes that it starts can be killed with it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise StepFailed(f"not done within {timeout:.0f} s") from None
        raise
    if process.returncode != 0:
        sys.stderr.write(errors)
        raise StepFailed(failure_reason(process.returncode, errors))
    if preload and "cannot be preloaded" in errors:
        raise StepFailed(f"{preload} cannot be preloaded")
    return json.loads(output.strip().rpartition("\n")[2])


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
