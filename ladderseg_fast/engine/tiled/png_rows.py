"""Rows of pixels as a PNG (PNG 1.2; ISO/IEC 15948)."""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .appended_file import AppendedFile
from .png_stream import SIGNATURE
from .row_format import RowForm

_GREY, _RGB, _PALETTE, _BITS = 0, 2, 3, 8
_NONE, _UP = 0, 2
#: Header of a zlib stream: deflate with a window of 32 KiB, the default level (RFC 1950).
_ZLIB_HEADER = b"\x78\x9c"
#: Level of zlib by channels: that of colours makes a photograph a few percent larger in a quarter of the time.
_LEVELS = {1: 6, 3: 2}


class PngRows:
    """Pixels as a PNG of 8 bits: one channel, with a palette or without, or RGB; see RowFormat.

    A row is stored as its difference from the row above, which of labels is zero nearly everywhere. At every
    synchronisation the compressed stream ends a block and forgets what came before, so that it can be continued from
    there.
    """

    def __init__(self, file: AppendedFile, form: RowForm, state: Mapping[str, Any] | None) -> None:
        self._file, self._form = file, form
        self._above: np.ndarray | None = None
        self._begin_block()
        if state is not None:
            self.rows, self._checksum = state["rows"], state["adler32"]
            return
        self.rows, self._checksum = 0, 1
        height, width = form.size
        file.append(SIGNATURE)
        colours = _RGB if form.channels == 3 else _GREY if form.palette is None else _PALETTE
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, _BITS, colours, 0, 0, 0))
        if form.palette is not None:
            self._chunk(b"PLTE", form.palette.tobytes())
        self._chunk(b"IDAT", _ZLIB_HEADER)

    def write(self, pixels: np.ndarray) -> None:
        """Adds `pixels` [n, W] or [n, W, 3] uint8."""
        rows = pixels.reshape(len(pixels), -1)
        filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 0] = _UP
        filtered[1:, 1:] = rows[1:] - rows[:-1]
        filtered[0, 0] = _NONE if self._above is None else _UP
        filtered[0, 1:] = rows[0] if self._above is None else rows[0] - self._above
        self._above = rows[-1].copy()
        data = filtered.tobytes()
        self._checksum = zlib.adler32(data, self._checksum)
        self._compressed(self._stream.compress(data))
        self.rows += len(rows)

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
        self._stream = zlib.compressobj(_LEVELS[self._form.channels], wbits=-15)
        self._above = None

    def _compressed(self, data: bytes) -> None:
        if data:
            self._chunk(b"IDAT", data)

    def _chunk(self, kind: bytes, data: bytes) -> None:
        checksum = zlib.crc32(data, zlib.crc32(kind))
        self._file.append(struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", checksum))
