"""Calls of the C library that fail on demand, in this process: see failing_calls.c."""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCE = Path(__file__).with_name("failing_calls.c")
_LOADED = "LADDERSEG_CHECK_FAILING_CALLS"


def load_before_all() -> None:
    """Starts the script again with the library in front of all others, unless it is there already."""
    if os.environ.get(_LOADED):
        return
    library = Path(tempfile.mkdtemp(prefix="ladderseg-check-")) / "failing_calls.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    preload = " ".join(filter(None, (str(library), os.environ.get("LD_PRELOAD"))))
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_PRELOAD": preload, _LOADED: str(library)})


class Calls:
    """Record of the calls of a block.

    Attributes:
        count: number of the calls.
        failed: the call that failed, and its file; "" if none did.
    """

    def __init__(self) -> None:
        self.count = 0
        self.failed = ""


@contextmanager
def failing_file_call(directory: Path, number: int, error: int) -> Iterator[Calls]:
    """Block in which change number `number` (from 1; 0: none) below `directory` fails with errno `error`."""
    library, calls = _library(), Calls()
    library.fail_file_call(os.fsencode(directory.resolve()), ctypes.c_long(number), error)
    try:
        yield calls
    finally:
        calls.count = library.count_file_calls()
        calls.failed = library.failed_call().decode(errors="replace")


@contextmanager
def failing_memory_call(number: int, least_bytes: int) -> Iterator[Calls]:
    """Block in which request number `number` (from 1; 0: none) for at least so many bytes of memory is refused."""
    library, calls = _library(), Calls()
    library.fail_memory_call(ctypes.c_long(number), ctypes.c_size_t(least_bytes))
    try:
        yield calls
    finally:
        calls.count = library.count_memory_calls()
        calls.failed = "memory" if 0 < number <= calls.count else ""


@contextmanager
def no_failing_memory_call() -> Iterator[None]:
    """Part of such a block in which requests for memory are neither counted nor refused."""
    _library().pause_memory_calls(1)
    try:
        yield
    finally:
        _library().pause_memory_calls(0)


def shift_clock(seconds: int) -> None:
    """Sets the clock, as far as this process sees it, so many seconds ahead of the machine's."""
    _library().shift_clock(ctypes.c_long(seconds))


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ[_LOADED])
    library.count_file_calls.restype = library.count_memory_calls.restype = ctypes.c_long
    library.failed_call.restype = ctypes.c_char_p
    return library
