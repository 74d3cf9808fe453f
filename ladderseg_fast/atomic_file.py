"""Files that are either complete or not there."""

import errno
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".partial"
_LEFTOVER = re.compile(rf"\.(?P<name>.+)\.\d+{re.escape(_SUFFIX)}", re.DOTALL)

#: Bytes that a file's name may have on common file systems.
_LONGEST_NAME = 255
_PERMISSIONS = 0o777
#: Errors of fsync on directories that their file system cannot force to the disk.
_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.EOPNOTSUPP)
#: Links that lead to each other, from which on it is a loop: as many as Linux follows.
_MOST_LINKS = 40


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a binary file that replaces `path` when the block ends; if the block fails, `path` stays as it was.

    The data goes to a temporary file in the same directory, is forced to the disk, and renamed. A replaced file leaves
    its permissions to the new one, and its owner if this process may give files away; a new file gets what the umask
    leaves. A symbolic link stays, and the file that it leads to is replaced. Anything but a regular file (a device, a
    pipe, /dev/stdout) gets the data written into it when the block ends, and nothing if the block fails.

    Raises:
        OSError: the file cannot be written; the message names `path`.
    """
    try:
        descriptor = _own_descriptor(path)
        if descriptor is not None:
            yield from _write_through(lambda: open(os.dup(descriptor), "wb"))
        elif (status := _status(path)) is not None and not stat.S_ISREG(status.st_mode):
            yield from _write_through(lambda: open(path, "r+b" if stat.S_ISBLK(status.st_mode) else "wb"))
        else:
            yield from _replace(Path(os.path.realpath(path)), status)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error


def remove_leftovers(directory: Path, is_ours: Callable[[str], bool]) -> None:
    """Deletes temporary files that killed processes left when they wrote files of `directory` atomically.

    Deletes only those of names for which `is_ours` holds; no other process may be writing one.
    """
    for path in leftovers(directory):
        match = _LEFTOVER.fullmatch(path.name)
        if match is not None and is_ours(match["name"]):
            path.unlink()


def leftovers(directory: Path) -> list[Path]:
    """Temporary files of atomic_write in `directory`, those in progress included."""
    names = sorted(directory.glob(f".*{_SUFFIX}"))
    return [path for path in names if _LEFTOVER.fullmatch(path.name) and path.is_file() and not path.is_symlink()]


def put_in_place(file: BinaryIO, path: Path) -> None:
    """Gives `file`, complete and open for writing, the name `path`, as atomic_write does; it is in the same directory.

    Raises:
        OSError: that cannot be done, such as because `path` is a directory; the message names `path`.
    """
    try:
        _put_in_place(file, Path(file.name), Path(os.path.realpath(path)), _status(path))
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error


def _put_in_place(file: BinaryIO, temporary: Path, path: Path, before: os.stat_result | None) -> None:
    """Gives `file`, which is open at `temporary`, the name `path`, and what it inherits from the file there."""
    file.flush()
    if before is not None:
        _inherit(file.fileno(), before)
    os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_directory(path.parent)


def _replace(path: Path, before: os.stat_result | None) -> Iterator[BinaryIO]:
    """Replaces the file at `path`, which is no link; `before` is the status of the file there."""
    temporary = path.with_name(_temporary_name(path.name))
    mode = 0o666 if before is None else before.st_mode & _PERMISSIONS
    # That of a killed process that had the same number. What is made next is new, and no link.
    temporary.unlink(missing_ok=True)
    try:
        # With no more permissions than it will have, from the first byte on.
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            _put_in_place(file, temporary, path, before)
    finally:
        # If it cannot be removed, the error that is under way says more; remove_leftovers finds the file.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_through(open_target: Callable[[], BinaryIO]) -> Iterator[BinaryIO]:
    # In memory first: writers may go back in a file, which a pipe cannot, and a block that fails leaves nothing.
    buffer = io.BytesIO()
    yield buffer
    with open_target() as file:
        file.write(buffer.getbuffer())


def _own_descriptor(path: Path) -> int | None:
    """N if `path` leads to /dev/stdout or another name of this process's open descriptor N.

    Such a file must not be opened again: it would be cut, and written from its start, under whoever else has it open.
    What this process has printed to it before comes first.
    """
    current = path
    for _ in range(_MOST_LINKS):
        directory = os.path.realpath(current.parent)
        if directory in (f"/proc/{os.getpid()}/fd", "/proc/self/fd") and current.name.isdecimal():
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            return int(current.name)
        if not current.is_symlink():
            return None
        current = Path(directory, os.readlink(current))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _status(path: Path) -> os.stat_result | None:
    """Status of the file that `path` leads to; None if there is none yet."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return status


def _inherit(descriptor: int, before: os.stat_result) -> None:
    """Gives the open file the owner (if this process may) and the permissions of the file that it replaces."""
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
        # Only the system knows whether it may; where not, the file is this process's, as all that it makes.
        with suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & _PERMISSIONS)


def _temporary_name(name: str) -> str:
    ending = f".{os.getpid()}{_SUFFIX}"
    if len(os.fsencode(name)) + 1 + len(ending) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}{ending}"


def _sync_directory(directory: Path) -> None:
    """Forces the renaming itself to the disk, where directories can be: some network file systems refuse."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(descriptor)
