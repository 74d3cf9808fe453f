"""Builds the CUDA emulator of src/, a stand-in for libcuda.so, with one g++ command."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "src"
# -ffp-contract=off: an fma is one only where PTX says so. -fno-math-errno and -fno-trapping-math let the loops over
# lanes be vectorised; neither changes a result.
FLAGS = [
    "-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-fno-strict-aliasing", "-fPIC", "-shared", "-fvisibility=default",
]  # fmt: skip


def cache_directory() -> Path:
    """``LADDERSEG_EMULATOR_CACHE``, or a directory in the user's cache."""
    chosen = os.environ.get("LADDERSEG_EMULATOR_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        home = os.path.expanduser("~")
        base = os.path.join(home, ".cache") if os.access(home, os.W_OK) else tempfile.gettempdir()
    return Path(base) / "ladderseg_fast_emulator"


def build_library() -> Path:
    """The library's path; compiles it unless the same sources were compiled before.

    Raises:
        RuntimeError: if the compiler fails; its messages are in the text.
    """
    compiler = os.environ.get("CXX", "g++")
    sources = sorted(SOURCES.glob("*.cpp"))
    digest = hashlib.sha256(" ".join([compiler, *FLAGS]).encode())
    digest.update(_processor().encode())  # -march=native
    for path in [*sources, *sorted(SOURCES.glob("*.h"))]:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    library = cache_directory() / f"libcuda_emulator_{digest.hexdigest()[:16]}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    # Test processes may build at the same time: each writes its own file and moves it into place.
    unfinished = library.with_suffix(f".{os.getpid()}.tmp")
    command = [compiler, *FLAGS, *map(str, sources), "-o", str(unfinished)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stderr}")
    os.replace(unfinished, library)
    return library


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")
