"""Rows of pixels as a tiled TIFF (TIFF 6.0, and BigTIFF for large ones)."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .appended_file import AppendedFile
from .row_format import RowForm
from .tiff_directory import LONG, LONG8, SHORT, TiffTag, begin_tiff, finish_tiff

#: Side of a tile.
TILE = 512
#: Numbers from which on offsets may need more than 32 bits.
_BIG = 2**31
_DEFLATE, _HORIZONTAL = 8, 2
_BLACK_IS_ZERO, _RGB, _PALETTE = 1, 2, 3


class TiffRows:
    """Pixels as a TIFF of 8 bits in tiles of 512x512 pixels, compressed by deflate; see RowFormat.

    One channel with a palette, or without one, or RGB, of which the differences between neighbours are stored. Rows
    enter the file when they fill a row of tiles. The directory, which says where the tiles are, comes last, and the
    header gets its place then.
    """

    def __init__(self, file: AppendedFile, form: RowForm, state: Mapping[str, Any] | None) -> None:
        self._file, self._form = file, form
        (height, width), channels = form.size, form.channels
        self._big = height * width * channels >= _BIG
        self._tiles = np.zeros((TILE, -(-width // TILE) * TILE, channels), np.uint8)
        self._filled = 0
        state = state or {"rows": 0, "offsets": [], "counts": []}
        self.rows: int = state["rows"]
        self._offsets: list[int] = list(state["offsets"])
        self._counts: list[int] = list(state["counts"])
        begin_tiff(file)

    def write(self, pixels: np.ndarray) -> None:
        """Adds `pixels` [n, W] or [n, W, 3] uint8."""
        height, width = self._form.size
        pixels = pixels.reshape(len(pixels), width, self._form.channels)
        while len(pixels):
            part = pixels[: TILE - self._filled]
            self._tiles[self._filled : self._filled + len(part), :width] = part
            self._filled += len(part)
            pixels = pixels[len(part) :]
            if self._filled == TILE or self.rows + self._filled == height:
                self._write_tiles()

    def synchronise(self) -> dict[str, Any]:
        """Returns the state to continue from; the rows of an unfinished row of tiles are not in it."""
        return {"rows": self.rows, "offsets": self._offsets, "counts": self._counts}

    def finish(self) -> None:
        """Completes the file after the last row."""
        finish_tiff(self._file, self._tags(), self._big)

    def _write_tiles(self) -> None:
        self._tiles[self._filled :] = 0
        for left in range(0, self._tiles.shape[1], TILE):
            tile = self._tiles[:, left : left + TILE]
            if self._form.channels == 3:
                tile = np.concatenate([tile[:, :1], tile[:, 1:] - tile[:, :-1]], axis=1)
            data = zlib.compress(tile.tobytes())
            self._offsets.append(self._file.length)
            self._counts.append(len(data))
            self._file.append(data)
        self.rows += self._filled
        self._filled = 0

    def _tags(self) -> list[TiffTag]:
        (height, width), channels, palette = self._form.size, self._form.channels, self._form.palette
        wide = LONG8 if self._big else LONG
        colours = _RGB if channels == 3 else _BLACK_IS_ZERO if palette is None else _PALETTE
        tags = [
            TiffTag(256, LONG, [width]),
            TiffTag(257, LONG, [height]),
            TiffTag(258, SHORT, [8] * channels),  # bits
            TiffTag(259, SHORT, [_DEFLATE]),
            TiffTag(262, SHORT, [colours]),
            TiffTag(277, SHORT, [channels]),
            TiffTag(284, SHORT, [1]),  # a pixel's numbers side by side
            TiffTag(322, SHORT, [TILE]),
            TiffTag(323, SHORT, [TILE]),
            TiffTag(324, wide, self._offsets),
            TiffTag(325, wide, self._counts),
            *self._form.tags,
        ]
        if channels == 3:
            tags.append(TiffTag(317, SHORT, [_HORIZONTAL]))  # predictor
        if palette is not None:
            tags.append(TiffTag(320, SHORT, [int(value) * 257 for value in palette.T.reshape(-1)]))
        return tags
