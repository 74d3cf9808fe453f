"""Labels as a tiled TIFF with a palette (TIFF 6.0, and BigTIFF for large ones)."""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .appended_file import HEAD, AppendedFile

#: Side of a tile.
TILE = 512
#: Pixels from which on offsets may need more than 32 bits.
_BIG = 2**31
_SHORT, _LONG, _LONG8 = 3, 4, 16
_LETTERS = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_DEFLATE, _PALETTE = 8, 3


class TiffLabels:
    """Labels as a TIFF of 8-bit palette indices in tiles of 512x512 pixels, compressed by deflate; see LabelFormat.

    Rows enter the file when they fill a row of tiles. The directory, which says where the tiles are, comes last, and
    the header gets its place then.
    """

    def __init__(
        self, file: AppendedFile, size: tuple[int, int], colours: np.ndarray, state: Mapping[str, Any] | None
    ) -> None:
        self._file = file
        self._size = size
        self._colours = colours
        self._big = size[0] * size[1] >= _BIG
        self._tiles = np.zeros((TILE, -(-size[1] // TILE) * TILE), np.uint8)
        self._filled = 0
        state = state or {"rows": 0, "offsets": [], "counts": []}
        self.rows: int = state["rows"]
        self._offsets: list[int] = list(state["offsets"])
        self._counts: list[int] = list(state["counts"])
        if file.length == 0:
            file.append(bytes(HEAD))

    def write(self, labels: np.ndarray) -> None:
        """Adds `labels` [n, W] uint8."""
        height, width = self._size
        while len(labels):
            part = labels[: TILE - self._filled]
            self._tiles[self._filled : self._filled + len(part), :width] = part
            self._filled += len(part)
            labels = labels[len(part) :]
            if self._filled == TILE or self.rows + self._filled == height:
                self._write_tiles()

    def synchronise(self) -> dict[str, Any]:
        """Returns the state to continue from; the rows of an unfinished row of tiles are not in it."""
        return {"rows": self.rows, "offsets": self._offsets, "counts": self._counts}

    def finish(self) -> None:
        """Completes the file after the last row."""
        if self._file.length % 2:  # directories begin at even places
            self._file.append(b"\0")
        place = self._file.length
        self._file.append(self._directory(place))
        # Its tiles must be on the disk before the header says that they are there.
        self._file.sync()
        head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, place) if self._big else struct.pack("<2sHI", b"II", 42, place)
        self._file.replace_head(head)

    def _write_tiles(self) -> None:
        self._tiles[self._filled :] = 0
        for left in range(0, self._tiles.shape[1], TILE):
            data = zlib.compress(self._tiles[:, left : left + TILE].tobytes())
            self._offsets.append(self._file.length)
            self._counts.append(len(data))
            self._file.append(data)
        self.rows += self._filled
        self._filled = 0

    def _directory(self, place: int) -> bytes:
        """Image file directory that begins at `place`, with the values that do not fit into its entries behind it."""
        height, width = self._size
        wide = _LONG8 if self._big else _LONG
        entries: list[tuple[int, int, list[int]]] = [
            (256, _LONG, [width]),
            (257, _LONG, [height]),
            (258, _SHORT, [8]),  # bits
            (259, _SHORT, [_DEFLATE]),
            (262, _SHORT, [_PALETTE]),
            (277, _SHORT, [1]),  # numbers per pixel
            (284, _SHORT, [1]),  # side by side
            (320, _SHORT, [int(value) * 257 for value in self._colours.T.reshape(-1)]),
            (322, _SHORT, [TILE]),
            (323, _SHORT, [TILE]),
            (324, wide, self._offsets),
            (325, wide, self._counts),
        ]
        count, field, end = ("<Q", "Q", "<Q") if self._big else ("<H", "I", "<I")
        room = struct.calcsize("<" + field)
        beyond = place + struct.calcsize(count) + len(entries) * (4 + 2 * room) + room
        directory, values = struct.pack(count, len(entries)), b""
        for tag, kind, numbers in entries:
            data = struct.pack(f"<{len(numbers)}{_LETTERS[kind]}", *numbers)
            directory += struct.pack("<HH" + field, tag, kind, len(numbers))
            if len(data) <= room:
                directory += data.ljust(room, b"\0")
            else:
                directory += struct.pack("<" + field, beyond + len(values))
                values += data + b"\0" * (len(data) % 2)
        return directory + struct.pack(end, 0) + values
