"""Fresh processes for what a process can see once: which libraries are loaded, which errors come first."""

import subprocess
import sys
from pathlib import Path

from emulator.emulation import require_compiler

TESTS = Path(__file__).parents[1]


def run_code(code: str) -> str:
    """Standard output of `code`, which can import what tests share.

    Skips the test if no NVRTC compiles for sm_80.
    """
    require_compiler("sm_80")
    # Where what tests share is found; in the repository's root are the sources, which hold no compiled core.
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
