"""Lock that admits one training at a time to a directory."""

import errno
import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

#: Errors of flock if the file system has no locks, or its server does not answer for them.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

#: Descriptors of the locks that this process holds.
_held: set[int] = set()


def _let_go() -> None:
    """Releases a lock that a forked process inherited: it lives as long as any process has it open."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


class RunLock:
    """Lock of the file `path`, which no other process and no other RunLock of this one can hold while it is active.

    The system releases it when the process ends, however it ends; the file says who holds it. If the file system has no
    locks, `stream` is told that a second training would not be noticed.

    Raises:
        BlockingIOError: another process holds it; the message names it, its machine and when it started.
        OSError: the file cannot be made; the message names it.
    """

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path = path
        self._stream = stream

    def __enter__(self) -> "RunLock":
        while True:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise OSError(f"cannot write {self._path}: {error.strerror}") from error
            try:
                self._take(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if self._is_there(descriptor):
                break
            # Its last holder has removed the file between the two calls.
            os.close(descriptor)
        self._descriptor = descriptor
        _held.add(descriptor)
        try:
            self._write_holder()
        except BaseException as error:
            self._release()
            if isinstance(error, OSError):
                raise OSError(f"cannot write {self._path}: {error.strerror}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _write_holder(self) -> None:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%d %H:%M:%S %z")}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode() + b"\n", 0)

    def _release(self) -> None:
        # A file that cannot be removed, as on a disk that has become read-only, locks nothing once it is closed.
        with suppress(OSError):
            if self._is_there(self._descriptor):
                self._path.unlink(missing_ok=True)
        _held.discard(self._descriptor)
        with suppress(OSError):
            os.close(self._descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{self._path.parent} is in use by {self._holder(descriptor)}; "
                "wait until that training has ended, or choose another directory"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise OSError(f"cannot lock {self._path}: {error.strerror}") from error
            text = f"the file system of {self._path.parent} has no locks ({error.strerror})"
            left = os.pread(descriptor, 1, 0)
            seen = f"; {self._path.name} there names {self._holder(descriptor)}" if left else ""
            from .terminal import show  # here, so that this file can also be run by itself

            show(
                f"{text}: a second training into this directory would not be noticed, and would spoil both{seen}",
                stream=self._stream,
            )

    def _holder(self, descriptor: int) -> str:
        try:
            holder = json.loads(os.pread(descriptor, 4096, 0))
            return f"process {holder['pid']} on {holder['host']}, which started at {holder['started']}"
        except (ValueError, TypeError, KeyError, RecursionError):  # it has not written it yet
            return "another process"

    def _is_there(self, descriptor: int) -> bool:
        """Whether the open file is the one that has the name."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path, follow_symlinks=False))
        except FileNotFoundError:
            return False
