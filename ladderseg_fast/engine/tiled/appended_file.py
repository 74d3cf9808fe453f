"""File that grows at its end, and can be continued by another process."""

import fcntl
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ...atomic_file import put_in_place

_PIECE = 1 << 20
#: Bytes at the start that the checksum leaves out: some formats complete them last.
HEAD = 16


class AppendedFile:
    """The file `path`, opened or made for writing at its end, which no other process may write meanwhile.

    Attributes:
        length: bytes written.
        checksum: CRC-32 of them, without the first HEAD.

    Raises:
        BlockingIOError: another process writes it.
        OSError: it cannot be opened; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = self.checksum = 0
        while True:
            try:
                self._file: BinaryIO = open(path, "r+b", opener=_open_or_make)
            except OSError as error:
                raise self._named(error) from error
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._file.close()
                raise BlockingIOError(f"{path}: another process writes this file") from error
            except OSError:
                break  # a file system without locks
            # Its last writer may have finished, and renamed it, between the two calls.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file.fileno()), os.stat(path)):
                    break
            self._file.close()

    def begin(self) -> None:
        """Empties the file."""
        self._cut(0)
        self.checksum = 0

    def resume(self, length: int, checksum: int) -> bool:
        """Cuts the file to `length` bytes, if it has them with this `checksum`; says whether it has."""
        found, left = 0, length - HEAD
        self._file.seek(HEAD)
        while left > 0 and (piece := self._file.read(min(_PIECE, left))):
            found, left = zlib.crc32(piece, found), left - len(piece)
        if left > 0 or found != checksum:
            return False
        self._cut(length)
        self.checksum = checksum
        return True

    def append(self, data: bytes) -> None:
        """Writes `data` at the end. Raises OSError if it cannot be written, such as on a full disk."""
        try:
            self._file.write(data)
        except OSError as error:
            raise self._named(error) from error
        skipped = max(0, HEAD - self.length)
        self.checksum = zlib.crc32(data[skipped:], self.checksum)
        self.length += len(data)

    def replace_head(self, data: bytes) -> None:
        """Writes `data`, at most HEAD bytes, over the start. Raises OSError as `append`."""
        assert len(data) <= HEAD <= self.length
        try:
            self._file.seek(0)
            self._file.write(data)
            self._file.seek(self.length)
        except OSError as error:
            raise self._named(error) from error

    def sync(self) -> None:
        """Forces everything to the disk. Raises OSError as `append`."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._named(error) from error

    def put_in_place(self, path: Path) -> None:
        """Forces the file to the disk, and gives it the name `path`. Raises OSError, which names `path`."""
        put_in_place(self._file, path)

    def close(self) -> None:
        """Closes the file, and lets other processes write it. What is not synchronised may be lost."""
        with suppress(OSError):  # a full disk has been reported already
            self._file.close()

    def _cut(self, length: int) -> None:
        try:
            self._file.seek(length)
            self._file.truncate()
        except OSError as error:
            raise self._named(error) from error
        self.length = length

    def _named(self, error: OSError) -> OSError:
        return OSError(f"cannot write {self.path}: {error.strerror or error}")


def _open_or_make(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CREAT, 0o666)  # os.open alone would make a program of it
