"""Labels as a palette PNG, written row by row (PNG 1.2; ISO/IEC 15948)."""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .appended_file import AppendedFile
from .png_stream import SIGNATURE

_PALETTE, _BITS = 3, 8
_NONE, _UP = 0, 2
#: Header of a zlib stream: deflate with a window of 32 KiB, the default level (RFC 1950).
_ZLIB_HEADER = b"\x78\x9c"


class PngLabels:
    """Labels as a PNG of 8-bit palette indices; see LabelFormat.

    A row is stored as its difference from the row above, which is zero nearly everywhere. At every synchronisation the
    compressed stream ends a block and forgets what came before, so that it can be continued from there.
    """

    def __init__(
        self, file: AppendedFile, size: tuple[int, int], colours: np.ndarray, state: Mapping[str, Any] | None
    ) -> None:
        self._file = file
        self._size = size
        self._above: np.ndarray | None = None
        self._begin_block()
        if state is not None:
            self.rows, self._checksum = state["rows"], state["adler32"]
            return
        self.rows, self._checksum = 0, 1
        height, width = size
        file.append(SIGNATURE)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, _BITS, _PALETTE, 0, 0, 0))
        self._chunk(b"PLTE", colours.tobytes())
        self._chunk(b"IDAT", _ZLIB_HEADER)

    def write(self, labels: np.ndarray) -> None:
        """Adds `labels` [n, W] uint8."""
        filtered = np.empty((len(labels), self._size[1] + 1), np.uint8)
        filtered[:, 0] = _UP
        filtered[1:, 1:] = labels[1:] - labels[:-1]
        filtered[0, 0] = _NONE if self._above is None else _UP
        filtered[0, 1:] = labels[0] if self._above is None else labels[0] - self._above
        self._above = labels[-1].copy()
        data = filtered.tobytes()
        self._checksum = zlib.adler32(data, self._checksum)
        self._compressed(self._stream.compress(data))
        self.rows += len(labels)

    def synchronise(self) -> dict[str, Any]:
        """Completes what is in the file so far, and returns the state to continue from."""
        self._compressed(self._stream.flush(zlib.Z_FULL_FLUSH))
        self._begin_block()
        return {"rows": self.rows, "adler32": self._checksum}

    def finish(self) -> None:
        """Completes the file after the last row."""
        self._compressed(self._stream.flush(zlib.Z_FINISH) + struct.pack(">I", self._checksum))
        self._chunk(b"IEND", b"")

    def _begin_block(self) -> None:
        self._stream = zlib.compressobj(wbits=-15)
        self._above = None

    def _compressed(self, data: bytes) -> None:
        if data:
            self._chunk(b"IDAT", data)

    def _chunk(self, kind: bytes, data: bytes) -> None:
        checksum = zlib.crc32(data, zlib.crc32(kind))
        self._file.append(struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", checksum))
