"""Choice of the reader of an image's windows by the content of its file."""

from pathlib import Path

from ...data import RGB, ImageForm, read_image
from .array_windows import ArrayWindows, numpy_windows
from .png_stream import SIGNATURE
from .png_windows import PngWindows
from .tiff_windows import TiffWindows
from .windows import Windows
from .zarr_windows import is_zarr, zarr_windows

_NUMPY = b"\x93NUMPY"
#: The first bytes of TIFF and BigTIFF, of both byte orders.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_windows(path: Path, form: ImageForm = RGB) -> Windows:
    """Opens the image `path`, which should have the form `form`, for reading in windows.

    PNG files are read row by row, TIFF files in the tiles or strips that they are stored in, .npy files and Zarr arrays
    (directories) where the window is. All other formats that Pillow knows are read whole.

    Args:
        form: of RGB, palettes become colours, greys of few bits are stretched to 8, and transparency is dropped. The
            channels of any other form are those of the file. Their number is looked at when they are used.

    Raises:
        OSError: there is no such file, or it is damaged, truncated or of no known format; or it has more pixels than
            are read whole.
        ValueError: its pixels cannot be used, or not in windows, or have other bits than `form`.
        MissingPackageError: (an ImportError) a package is needed that is not installed.
    """
    if is_zarr(path):
        return zarr_windows(path)
    head = b""
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(len(SIGNATURE))
    if head == SIGNATURE:
        return _of_bits(PngWindows(path, stored=form != RGB), form)
    if head[:4] in _TIFF:
        return _of_bits(TiffWindows(path, stored=form != RGB), form)
    if head[:6] == _NUMPY:
        return numpy_windows(path)
    return ArrayWindows(read_image(path, form), str(path))


def _of_bits(image: PngWindows | TiffWindows, form: ImageForm) -> PngWindows | TiffWindows:
    """Returns `image`; raises ValueError, and closes it, if its channels are not as wide as those of `form`."""
    if image.bits == form.bits:
        return image
    image.close()
    raise ValueError(f"{image.name}: {form} are expected, but the image has {image.bits} bits per channel")
