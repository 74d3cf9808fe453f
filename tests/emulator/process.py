"""Fresh processes in which the CUDA path is emulated: an emulation cannot be switched off again in a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulator import emulation

from ladderseg_fast.cuda import nvrtc

TESTS = Path(__file__).parents[1]


def run_module(name: str, *arguments: str, architecture: str, stdin: str = "") -> str:
    """Standard output of the module `name` of tests/, for which emulation.CHOICE is `architecture` ("sm_80").

    Skips the test if no NVRTC compiles for that.
    """
    require_compiler(architecture)
    return _output(["-m", name, *arguments], architecture, stdin)


def run_code(code: str, architecture: str = "sm_80") -> str:
    """Standard output of `code`, which can import what tests share. It starts the emulation itself, or not."""
    require_compiler(architecture)
    return _output(["-c", code], architecture, "")


def require_compiler(architecture: str) -> None:
    try:
        compiler = nvrtc.open_nvrtc()
    except nvrtc.NvrtcNotFound as error:
        pytest.skip(str(error))
    if int(architecture.removeprefix("sm_")) not in compiler.architectures:
        pytest.skip(f"{compiler.name} does not compile for {architecture}")


def _output(arguments: list[str], architecture: str, stdin: str) -> str:
    environment = os.environ | {
        "LADDERSEG_FAST_EMULATE": architecture,
        "LADDERSEG_FAST_EMULATE_SEED": str(emulation.SEED),
    }
    command = [sys.executable, *arguments]
    # Where what tests share is found; in the repository's root are the sources, which hold no compiled core.
    result = subprocess.run(
        command, cwd=TESTS, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
