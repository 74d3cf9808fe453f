"""Windows of TIFF files."""

from pathlib import Path
from typing import Any

import numpy as np

from ...data.file_structure import check_structure
from ...models.weights import MissingPackageError
from .array_windows import MappedWindows
from .tiff_form import tiff_form
from .tiff_segments import TiffSegments
from .windows import OpenFile, check_window

#: Tags that are computed with, as tifffile calls them.
_WHOLE = ("imagelength", "imagewidth", "samplesperpixel", "rowsperstrip", "tilelength", "tilewidth", "bitspersample")


class TiffWindows(OpenFile):
    """Windows of the only picture in a TIFF or BigTIFF, whose smaller copies and masks do not count.

    Channels are grey or RGB, of 8 or 16 bits; palettes are RGB. Transparency is dropped if it is nowhere
    between none and full. Where pixels are not compressed and follow each other, windows are mapped into memory;
    else tiles or strips are decoded.

    Args:
        stored: the channels are the numbers in the file, any of 8 to 16 bits, transparency among them.

    Attributes:
        bits: of a channel as it is stored; 8 or 16 of colours.

    Raises:
        OSError: the file cannot be read, or is damaged or truncated, as far as its header shows.
        ValueError: its pixels cannot be used, or it holds several pictures.
        MissingPackageError: (an ImportError) the package tifffile is not installed.
    """

    def __init__(self, path: Path, stored: bool = False) -> None:
        self.name = str(path)
        self._file = _open(path)
        try:
            page = _only_page(path, self._file)
            self._form = tiff_form(path, page, stored)
            self.size = page.imagelength, page.imagewidth
            self.channels, self.dtype = self._form.channels, self._form.dtype
            self.bits = page.bitspersample if stored else self.dtype.itemsize * 8
            self._stored = _stored(path, page)
        except Exception as error:
            self._file.close()
            # Of a damaged file tags can be of any type, and tifffile's errors too: ours name the file.
            if isinstance(error, MemoryError) or str(path) in str(error):
                raise
            raise OSError(f"{path}: damaged: cannot read the TIFF ({error})") from error

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Reads a window [bottom - top, right - left, C]; see Windows.read.

        Raises:
            OSError: the file is damaged or truncated there.
            ValueError: there is transparency between none and full.
        """
        check_window(self.size, top, bottom, left, right)
        return self._form.pixels(self._stored.read(top, bottom, left, right))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _open(path: Path) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise MissingPackageError(
            f'{path}: TIFF files are read in windows by the package tifffile: pip install "ladderseg_fast[tiff]"'
        ) from error
    try:
        check_structure(path)
        return tifffile.TiffFile(path)
    except OSError:
        raise
    except Exception as error:  # a damaged header makes it raise errors of many kinds
        raise OSError(f"{path}: cannot read the TIFF ({error})") from error


def _only_page(path: Path, file: Any) -> Any:
    try:
        pages = [file.pages[i].aspage() for i in range(len(file.pages))]
    except Exception as error:
        raise OSError(f"{path}: cannot read the TIFF ({error})") from error
    full = [page for page in pages if not (page.is_reduced or page.is_mask)] or pages[:1]
    if len(full) > 1:
        raise ValueError(f"{path}: a single picture is expected, but the file holds {len(full)}")
    if not full or 0 in (full[0].imagelength, full[0].imagewidth) or len(full[0].dataoffsets) == 0:
        raise OSError(f"{path}: damaged: the TIFF has no pixels")
    for name in _WHOLE:
        if not isinstance(getattr(full[0], name), int):  # tags of a damaged file can be of any type
            raise OSError(f"{path}: damaged: {name} is no whole number")
    return full[0]


def _stored(path: Path, page: Any) -> MappedWindows | TiffSegments:
    if not (page.is_contiguous and page.is_memmappable and page.planarconfig == 1):
        return TiffSegments(path, page)
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    return MappedWindows(path, lambda: np.memmap(path, dtype, "r", page.dataoffsets[0], shape))
