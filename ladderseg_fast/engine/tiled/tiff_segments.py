"""Windows of the numbers in a TIFF page, decoded tile by tile, or strip by strip."""

from pathlib import Path
from typing import Any

import numpy as np

from ...data.lzw import check_lzw
from ...models.weights import MissingPackageError

#: Numbers in the largest tile or strip that is decoded: it is in memory as a whole.
_LARGEST = 2**30


class TiffSegments:
    """Numbers of the pixels of a TIFF page, whatever it is compressed with.

    In memory are the decoded tiles or strips that reach into the rows of the last window, over the image's whole
    width, so each is decoded once while windows go from left to right and from top to bottom.

    Args:
        page: a tifffile.TiffPage.

    Raises:
        ValueError: a tile or strip is too large.
        OSError: the file has fewer tiles or strips than its size needs.
    """

    def __init__(self, path: Path, page: Any) -> None:
        self._path, self._page = path, page
        height, width = page.imagelength, page.imagewidth
        self._rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, height)
        self._columns = page.tilewidth if page.is_tiled else width
        self._across, self._down = -(-width // self._columns), -(-height // self._rows)
        #: One where a pixel's numbers are side by side, else one plane for each.
        self._planes = 1 if page.planarconfig == 1 else page.samplesperpixel
        if self._rows * self._columns * page.samplesperpixel // self._planes > _LARGEST:
            raise ValueError(
                f"{path}: the image is stored in compressed strips of {self._rows} rows, too large to be decoded as a "
                "whole: save it in tiles"
            )
        known = min(len(page.dataoffsets), len(page.databytecounts))
        if known < self._across * self._down * self._planes:
            raise OSError(f"{path}: damaged: it does not say where all of its {height}x{width} pixels are")
        self._decoded: dict[tuple[int, int], np.ndarray] = {}

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Numbers [bottom - top, right - left, N] of the rows from `top` to before `bottom`, and of these columns.

        Raises:
            OSError: a part of the file is missing or damaged.
            MissingPackageError: (an ImportError) the package that decodes the compression is not installed.
        """
        self._decoded = {at: tile for at, tile in self._decoded.items() if (at[0] + 1) * self._rows > top}
        page = self._page
        window = np.empty((bottom - top, right - left, page.samplesperpixel), page.dtype)
        for down in range(top // self._rows, -(-bottom // self._rows)):
            for across in range(left // self._columns, -(-right // self._columns)):
                tile = self._tile(down, across)
                y, x = down * self._rows, across * self._columns
                rows = slice(max(top, y), min(bottom, y + len(tile)))
                columns = slice(max(left, x), min(right, x + tile.shape[1]))
                window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = tile[
                    rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
                ]
        return window

    def _tile(self, down: int, across: int) -> np.ndarray:
        """Numbers [rows, columns, N] of a tile or strip, less at the image's edges."""
        if (down, across) not in self._decoded:
            page = self._page
            rows = min(self._rows, page.imagelength - down * self._rows)
            columns = min(self._columns, page.imagewidth - across * self._columns)
            planes = [self._segment(plane, down, across, rows, columns) for plane in range(self._planes)]
            self._decoded[down, across] = planes[0] if self._planes == 1 else np.concatenate(planes, axis=2)
        return self._decoded[down, across]

    def _segment(self, plane: int, down: int, across: int, rows: int, columns: int) -> np.ndarray:
        page = self._page
        index = (plane * self._down + down) * self._across + across
        where = f"{self._path}: row {down * self._rows}, column {across * self._columns}"
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not (isinstance(offset, int) and isinstance(count, int) and offset >= 0 and count >= 0):
            raise OSError(f"{where}: damaged: the place of the pixels is no whole number")
        if not count:  # left out by the writer
            return np.full((rows, columns, page.samplesperpixel // self._planes), page.nodata, page.dtype)
        file = page.parent.filehandle
        file.seek(offset)
        data = file.read(min(count, file.size))  # of which a buffer is made before they are read
        if len(data) < count:
            raise OSError(
                f"{where}: truncated: {count} bytes of pixels are expected, but the file ends after {len(data)}"
            )
        try:
            check_lzw(page, data)
            decoded = page.decode(data, index, jpegtables=page.jpegtables)[0]
        except Exception as error:  # every decoder has errors of its own
            if "imagecodecs" in str(error):
                raise MissingPackageError(
                    f'{self._path}: its compression needs the package imagecodecs: pip install "ladderseg_fast[tiff]"'
                ) from error
            raise OSError(f"{where}: cannot decode the pixels ({error})") from error
        if decoded is None or min(decoded.shape[1] - rows, decoded.shape[2] - columns) < 0:
            raise OSError(f"{where}: damaged: there are too few pixels")
        return decoded[0, :rows, :columns]
