"""Scripts of benchmarks/ as a whole, whose steps run in forks of their process instead of fresh interpreters.

The import of torch would be most of the time of so small steps. tests/benchmarks/test_speed.py has fresh ones.
"""

import contextlib
import importlib
import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.processes import run_each


def run_benchmark(script: Path, *options: str, first: Callable[[], object] = tuple) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT OPTIONS` does; `first` is called before, in its process."""
    command = [str(script), *options]
    ((status, output, errors),) = run_each(_run_with_forks, [(command, first)])
    return subprocess.CompletedProcess(command, status, output, errors)


def _run_with_forks(command: list[str], first: Callable[[], object]) -> tuple[int, str, str]:
    sys.path.insert(0, str(Path(command[0]).parent))
    first()
    importlib.import_module("torch._dynamo")  # in this process, where it counts as no step's memory or time
    step = importlib.import_module("subprocess_step")
    step.run_step = _forked(step)
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = _run(command)
    return status, output.getvalue(), errors.getvalue()


def _forked(step: Any) -> Callable[..., dict[str, Any]]:
    """subprocess_step.run_step, with a fork for each step."""

    def run_step(script: str, arguments: list[str], preload: str | None = None) -> dict[str, Any]:
        assert preload is None, "a fork has the libraries of its process"
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            child = os.fork()
            if child == 0:
                sys.stdout, sys.stderr = output, errors
                status = _run([str(Path(step.__file__).parent / script), *arguments])
                output.flush(), errors.flush()
                os._exit(status)
            _, ended = os.waitpid(child, 0)
            for file in (output, errors):
                file.seek(0)
            if status := os.waitstatus_to_exitcode(ended):
                text = errors.read()
                sys.stderr.write(text)
                raise step.StepFailed(step.failure_reason(status, text))
            return json.loads(output.read().strip().rpartition("\n")[2])

    return run_step


def _run(command: list[str]) -> int:
    """Exit status of the script with its arguments, run in this process."""
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0
