"""Compiled images on disk, so that a kernel is compiled once per machine and not once per process.

The cache is LADDERSEG_FAST_CACHE, else ladderseg_fast in XDG_CACHE_HOME, else ~/.cache/ladderseg_fast. Any process may
write and delete entries at any time: an entry is renamed into place when it is complete, and carries a checksum.

An image runs on the GPU with this user's rights, so only this user's files count: neither a directory that another user
owns or may write to, nor an entry that is another's or a symbolic link.
"""

import hashlib
import os
import stat
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

_HEADER = b"ladderseg_fast image 1\n"

#: Permissions of others to write.
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_warned = False


class UntrustedCache(OSError):
    """Another user owns the directory or the file, or may write to it."""


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


def make_directory() -> Path:
    """Makes the directory of the cache, for this user alone, if it is not there; returns it.

    Where the environment does not name it, it is this package's own, and others' permission to write is taken back.

    Raises:
        UntrustedCache: (an OSError) another user owns it or may write to it.
        OSError: it cannot be made.
        RuntimeError: there is no place for it; see `directory`.
    """
    path = directory()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if not os.environ.get("LADDERSEG_FAST_CACHE") and status.st_uid == os.geteuid() and status.st_mode & _OTHERS_WRITE:
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
    _check_owner(path, path.stat())
    return path


def load(entry: str) -> bytes | None:
    """Image from the cache, or None if there is no such entry, it is damaged, or others can have written it."""
    try:
        content = _read(directory(), entry)
    except UntrustedCache as error:
        _warn(error)
        return None
    except (OSError, RuntimeError):
        return None
    start = len(_HEADER) + hashlib.sha256().digest_size
    image = content[start:]
    return image if content[:start] == _HEADER + hashlib.sha256(image).digest() else None


def store(entry: str, image: bytes) -> None:
    """Writes an entry. If that is impossible, warns once per process and goes on, since the image is at hand."""
    try:
        _write(make_directory() / entry, image)
    except (OSError, RuntimeError) as error:
        _warn(error)


def _warn(error: Exception) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled CUDA kernels are not kept, so that the next process compiles them again: {error}. "
            "The environment variable LADDERSEG_FAST_CACHE names another directory for them.",
            RuntimeWarning,
            stacklevel=3,
        )


def _read(path: Path, entry: str) -> bytes:
    """Content of the file `entry` in the directory `path`; OSError unless both are this user's."""
    # By its descriptor, the directory that is looked at is the one that is read from.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_owner(path, os.fstat(folder))
        # What is no file, such as a pipe, must not be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(entry, flags, dir_fd=folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path / entry}: not an ordinary file")
            _check_owner(path / entry, status)
            return file.read()
    finally:
        os.close(folder)


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Raises UntrustedCache unless `path` is this user's, and nobody else may write to it."""
    if status.st_uid != os.geteuid():
        raise UntrustedCache(f"{path} is of the user with the number {status.st_uid}, not of this one")
    if status.st_mode & _OTHERS_WRITE:
        raise UntrustedCache(f"other users may write to {path} (chmod go-w takes that back)")


def _write(path: Path, image: bytes) -> None:
    """Writes through a temporary file with a name of its own: several processes and threads may write the same entry.

    The file is not forced to the disk: the checksum finds what a crash of the machine has left incomplete.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(_HEADER + hashlib.sha256(image).digest() + image)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
