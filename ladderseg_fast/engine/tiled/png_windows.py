"""Windows of a PNG file, which is read row by row."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .png_stream import PngHeader, PngStream
from .row_band import RowBand
from .windows import OpenFile, check_window

#: What greys of few bits are multiplied by, so that white is 255.
_GREYS_OF_FEW_BITS = {1: 255, 2: 85, 4: 17}


class PngWindows(OpenFile):
    """Windows of a PNG: grey (1 channel) or RGB (3), of 8 or 16 bits; transparency is dropped, palettes are RGB.

    In memory are the rows from the top of the last window to its bottom, in the image's whole width.

    Args:
        stored: the channels are those of the file instead, transparency among them.

    Attributes:
        bits: 8 or 16.

    Raises:
        OSError: the file cannot be read, or is damaged or truncated, as far as its header shows.
        ValueError: it is interlaced, or stored turned according to its EXIF orientation; or `stored`, and it has a
            palette or less than 8 bits.
    """

    def __init__(self, path: Path, stored: bool = False) -> None:
        self.name = str(path)
        self._path = path
        self._stream = PngStream(path)
        header = self._stream.header
        try:
            _check(path, header, stored)
        except ValueError:
            self._stream.close()
            raise
        self.size = header.size
        if stored:
            self.channels = header.samples
        else:
            self.channels = 3 if header.palette is not None or header.samples >= 3 else 1
        self.bits = max(8, header.bits)
        self.dtype = np.dtype(np.uint16 if header.bits == 16 else np.uint8)
        self._band = RowBand(self._rows())

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Reads a window [bottom - top, right - left, C]; see Windows.read."""
        check_window(self.size, top, bottom, left, right)
        if top < self._band.top:
            self._stream.close()
            self._stream = PngStream(self._path)
            self._band = RowBand(self._rows())
        return self._band.rows(top, bottom)[:, left:right]

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def _rows(self) -> Iterator[np.ndarray]:
        header = self._stream.header
        for rows in self._stream.rows():
            if header.palette is not None:
                yield header.palette[rows[..., 0]]
            elif header.bits < 8:
                yield rows * np.uint8(_GREYS_OF_FEW_BITS[header.bits])
            else:
                yield rows[..., : self.channels]


def _check(path: Path, header: PngHeader, stored: bool) -> None:
    if header.orientation != 1:
        raise ValueError(
            f"{path}: the image is stored turned (EXIF orientation {header.orientation}), so its rows cannot be read "
            "one by one: save it upright"
        )
    if stored and (header.palette is not None or header.bits < 8):
        form = "a palette" if header.palette is not None else f"{header.bits} bits per channel"
        raise ValueError(f"{path}: the image has {form}; bands of 8 or 16 bits are expected")
