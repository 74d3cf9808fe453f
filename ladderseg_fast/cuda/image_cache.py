"""Compiled images on disk, so that a kernel is compiled once per machine and not once per process.

The cache is LADDERSEG_FAST_CACHE, else ladderseg_fast in XDG_CACHE_HOME, else ~/.cache/ladderseg_fast. Any process may
write and delete entries at any time: an entry is renamed into place when it is complete, and carries a checksum.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

_HEADER = b"ladderseg_fast image 1\n"

_warned = False


def directory() -> Path:
    """Directory of the cache; it need not exist yet.

    Raises:
        RuntimeError: this user has no home directory, and the environment names no other place.
    """
    if chosen := os.environ.get("LADDERSEG_FAST_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored, says the XDG base directory specification.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "ladderseg_fast"


def entry_name(name: str, target: str, facts: Iterable[str]) -> str:
    """File name of image `name` for `target`; `facts` are what else the image depends on."""
    key = hashlib.sha256("\0".join([name, target, *facts]).encode()).hexdigest()
    return f"{name}.{target}.{key[:32]}"


def load(entry: str) -> bytes | None:
    """Image from the cache, or None if there is no such entry or it is damaged."""
    try:
        content = (directory() / entry).read_bytes()
    except (OSError, RuntimeError):
        return None
    start = len(_HEADER) + hashlib.sha256().digest_size
    image = content[start:]
    return image if content[:start] == _HEADER + hashlib.sha256(image).digest() else None


def store(entry: str, image: bytes) -> None:
    """Writes an entry. If that is impossible, warns once per process and goes on, since the image is at hand."""
    global _warned
    try:
        _write(directory() / entry, image)
    except (OSError, RuntimeError) as error:
        if not _warned:
            _warned = True
            warnings.warn(
                f"compiled CUDA kernels are not kept, so that the next process compiles them again: {error}. "
                "The environment variable LADDERSEG_FAST_CACHE names another directory for them.",
                RuntimeWarning,
                stacklevel=2,
            )


def _write(path: Path, image: bytes) -> None:
    """Writes through a temporary file with a name of its own: several processes and threads may write the same entry.

    The file is not forced to the disk: the checksum finds what a crash of the machine has left incomplete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(_HEADER + hashlib.sha256(image).digest() + image)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
