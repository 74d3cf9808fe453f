"""Planes of numbers, such as the probabilities of classes, as a tiled TIFF (TIFF 6.0, and BigTIFF for large ones)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .appended_file import HEAD, AppendedFile
from .row_format import RowForm
from .tiff_directory import LONG, LONG8, SHORT, TiffTag, begin_tiff, finish_tiff

#: Height and width of a tile: low, since a row of tiles of all planes is in memory.
ROWS, COLUMNS = 64, 512
#: Bytes of pixels from which on offsets may need more than 32 bits: the directory comes behind them.
_BIG = 2**31
_PLAIN, _BLACK_IS_ZERO, _SEPARATE, _FLOAT = 1, 1, 2, 3


class TiffPlanes:
    """Planes as a TIFF of numbers of 32 bits in tiles of 64x512, not compressed; see RowFormat.

    A row of tiles has those of the first plane, then those of the second, and so on. All have one length, so their
    places follow from their numbers.
    """

    def __init__(self, file: AppendedFile, form: RowForm, state: Mapping[str, Any] | None) -> None:
        self._file, self._form = file, form
        height, width = form.size
        self._down, self._across = -(-height // ROWS), -(-width // COLUMNS)
        self._tiles = np.zeros((form.channels, ROWS, self._across * COLUMNS), np.float16)
        self._filled = 0
        self.rows: int = 0 if state is None else state["rows"]
        begin_tiff(file)

    def write(self, pixels: np.ndarray) -> None:
        """Adds `pixels` [n, channels, W] float16."""
        height, width = self._form.size
        while len(pixels):
            part = pixels[: ROWS - self._filled]
            self._tiles[:, self._filled : self._filled + len(part), :width] = part.swapaxes(0, 1)
            self._filled += len(part)
            pixels = pixels[len(part) :]
            if self._filled == ROWS or self.rows + self._filled == height:
                self._write_tiles()

    def synchronise(self) -> dict[str, Any]:
        """Returns the state to continue from; the rows of an unfinished row of tiles are not in it."""
        return {"rows": self.rows}

    def finish(self) -> None:
        """Completes the file after the last row."""
        (height, width), planes = self._form.size, self._form.channels
        tile = ROWS * COLUMNS * 4
        numbers = np.arange(self._down * planes * self._across, dtype=np.uint64)
        places = HEAD + tile * numbers.reshape(self._down, planes, self._across).swapaxes(0, 1).reshape(-1)
        big = len(numbers) * tile >= _BIG
        wide = LONG8 if big else LONG
        tags = [
            TiffTag(256, LONG, [width]),
            TiffTag(257, LONG, [height]),
            TiffTag(258, SHORT, [32] * planes),  # bits
            TiffTag(259, SHORT, [_PLAIN]),
            TiffTag(262, SHORT, [_BLACK_IS_ZERO]),
            TiffTag(277, SHORT, [planes]),
            TiffTag(284, SHORT, [_SEPARATE]),
            TiffTag(322, SHORT, [COLUMNS]),
            TiffTag(323, SHORT, [ROWS]),
            TiffTag(324, wide, places),
            TiffTag(325, LONG, np.full(len(numbers), tile)),
            TiffTag(339, SHORT, [_FLOAT] * planes),
            *self._form.tags,
        ]
        if planes > 1:
            tags.append(TiffTag(338, SHORT, [0] * (planes - 1)))  # of no meaning that TIFF knows
        finish_tiff(self._file, tags, big)

    def _write_tiles(self) -> None:
        self._tiles[:, self._filled :] = 0
        for plane in self._tiles:
            tiles = plane.reshape(ROWS, self._across, COLUMNS).swapaxes(0, 1)
            self._file.append(tiles.astype("<f4").tobytes())
        self.rows += self._filled
        self._filled = 0
