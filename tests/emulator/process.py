"""Fresh processes for what a process can see once: which libraries are loaded, which errors come first."""

from pathlib import Path

from emulator.emulation import require_compiler
from support.processes import output_of

TESTS = Path(__file__).parents[1]


def run_code(code: str) -> str:
    """Standard output of `code`, which can import what tests share.

    Skips the test if no NVRTC compiles for sm_80.
    """
    require_compiler("sm_80")
    # Where what tests share is found; in the repository's root are the sources, which hold no compiled core.
    return output_of(code, TESTS)
