"""Choice of the reader of an image's windows by the content of its file."""

from pathlib import Path

from ...data import read_image
from .array_windows import ArrayWindows, numpy_windows
from .png_stream import SIGNATURE
from .png_windows import PngWindows
from .tiff_windows import TiffWindows
from .windows import Windows
from .zarr_windows import is_zarr, zarr_windows

_NUMPY = b"\x93NUMPY"
#: The first bytes of TIFF and BigTIFF, of both byte orders.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_windows(path: Path, stored: bool = False) -> Windows:
    """Opens the image `path` for reading in windows.

    PNG files are read row by row, TIFF files in the tiles or strips that they are stored in, .npy files and Zarr arrays
    (directories) where the window is. All other formats that Pillow knows are read whole.

    Args:
        stored: the channels are those of the file. Otherwise palettes are RGB, greys of few bits are stretched to 8,
            and transparency is dropped.

    Raises:
        OSError: there is no such file, or it is damaged, truncated or of no known format; or it has more pixels than
            are read whole.
        ValueError: its pixels cannot be used, or not in windows.
        MissingPackageError: (an ImportError) a package is needed that is not installed.
    """
    if is_zarr(path):
        return zarr_windows(path)
    head = b""
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(len(SIGNATURE))
    if head == SIGNATURE:
        return PngWindows(path, stored)
    if head[:4] in _TIFF:
        return TiffWindows(path, stored)
    if head[:6] == _NUMPY:
        return numpy_windows(path)
    return ArrayWindows(read_image(path), str(path))
