"""What tests compile, once for all of pytest's processes, and kept for the next run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

#: Seconds after which what was not used goes.
MONTH = 30 * 24 * 3600


def cache_directory() -> Path:
    """``LADDERSEG_TEST_CACHE``, or a directory in the user's cache."""
    chosen = os.environ.get("LADDERSEG_TEST_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        home = os.path.expanduser("~")
        base = os.path.join(home, ".cache") if os.access(home, os.W_OK) else tempfile.gettempdir()
    return Path(base) / "ladderseg_fast_tests"


def kept_file(name: str, facts: Iterable[str | bytes], make: Callable[[Path], None]) -> Path:
    """The file that `make`, called with its path, has written, now or in an earlier process.

    Args:
        name: of the file, with its suffix; a hash is put before the suffix.
        facts: what the content depends on.
        make: called while no other process makes this file.
    """
    digest = hashlib.sha256()
    for fact in facts:
        content = fact if isinstance(fact, bytes) else fact.encode()
        digest.update(f"{len(content)}\n".encode())
        digest.update(content)
    stem, _, suffix = name.rpartition(".")
    path = cache_directory() / f"{stem}_{digest.hexdigest()[:32]}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _delete_old(path.parent)
                # A process that is killed leaves no half of the file.
                unfinished = path.with_suffix(".unfinished")
                make(unfinished)
                os.replace(unfinished, path)
    os.utime(path)
    return path


def shared_library(name: str, flags: Sequence[str], sources: Sequence[Path], headers: Iterable[Path]) -> Path:
    """Path of the library that ``$CXX`` (g++) makes of `sources`, which include `headers`.

    Raises:
        RuntimeError: if the compiler fails; its messages are in the text.
    """
    compiler = [*shlex.split(os.environ.get("CXX", "g++")), *flags, "-fPIC"]

    def run(*arguments: str) -> None:
        command = [*compiler, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)}\n{result.stderr}")

    def compile_to(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            objects = [f"{folder}/{number}.o" for number in range(len(sources))]
            list(pool.map(lambda source, target: run("-c", str(source), "-o", target), sources, objects))
            run("-shared", *objects, "-o", str(path))

    contents = [path.read_bytes() for path in (*sources, *sorted(headers))]
    return kept_file(f"{name}.so", [*compiler, _processor(), *contents], compile_to)


def _processor() -> str:
    """The instructions that -march=native allows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _delete_old(directory: Path) -> None:
    for path in directory.iterdir():
        # Other processes finish files, and delete them, meanwhile.
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > MONTH:
                path.unlink()
