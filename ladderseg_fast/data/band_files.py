"""Pixels of images whose bands are more or wider than RGB of 8 bits, as they are in the file.

Pillow reads PNGs of 8 bits and grey ones of 16. It makes 8 bits of the other PNGs without a word, and knows few TIFFs
of other forms, so these are read by tifffile and imagecodecs, the extra [tiff].
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ..models.weights import MissingPackageError
from .image_header import naming

#: EXIF's tag of the orientation.
_ORIENTATION = 0x0112
#: Bytes of a PNG's signature, and of the length and the name before a chunk's content and the checksum behind it.
_SIGNATURE, _BEFORE, _BEHIND = 8, 8, 4


def check_tiff_packages() -> None:
    """Raises MissingPackageError unless tifffile and imagecodecs can be imported."""
    for name in ("tifffile", "imagecodecs"):
        _package(name)


def read_tiff_bands(path: Path) -> np.ndarray:
    """Reads the first page of a TIFF: [H, W, bands], turned as it is stored.

    Raises:
        MissingPackageError: the extra [tiff] is not installed.
        OSError: the file is damaged, or of a variety that tifffile does not know.
    """
    check_tiff_packages()
    tifffile = _package("tifffile")
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            pixels: np.ndarray = page.asarray()
            planes = page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    except MemoryError:
        raise
    except Exception as error:  # of tifffile, and of the codecs: neither documents which
        raise OSError(f"{path}: cannot read the image ({_first_line(error)})") from error
    if pixels.ndim == 2:
        return pixels[..., None]
    return np.moveaxis(pixels, 0, 2) if planes else pixels


def read_deep_png(path: Path) -> np.ndarray:
    """Reads a PNG of 16 bits and several channels: [H, W, channels], turned as it is stored.

    One transparent colour becomes a channel more.

    Raises:
        MissingPackageError: the extra [tiff] is not installed.
        OSError: the file is damaged.
    """
    imagecodecs = _package("imagecodecs")
    try:
        pixels: np.ndarray = imagecodecs.png_decode(path.read_bytes())
    except OSError:
        raise
    except RuntimeError as error:  # imagecodecs.PngError
        raise OSError(f"{path}: cannot read the image ({_first_line(error)})") from error
    return pixels


def png_orientation(path: Path) -> int:
    """Finds the orientation in the EXIF data of a PNG, wherever these are; 1 if there are none, or it is not 1 to 8.

    Raises:
        OSError: the file cannot be read, or these data are damaged.
    """
    with open(path, "rb") as file:
        file.seek(_SIGNATURE)
        while len(before := file.read(_BEFORE)) == _BEFORE:
            length = int.from_bytes(before[:4], "big")
            if before[4:] == b"eXIf":
                exif = Image.Exif()
                with naming(path):
                    exif.load(file.read(length))
                    orientation = exif.get(_ORIENTATION, 1)
                return orientation if orientation in range(1, 9) else 1
            file.seek(length + _BEHIND, 1)
    return 1


def turned_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns `pixels` [H, W, bands] of a file with EXIF's `orientation` (TIFF 6.0, section 8), 1 to 8, upright."""
    if orientation in (5, 6, 7, 8):  # rows and columns are exchanged
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # the first row is at the bottom
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):  # the first column is at the right
        pixels = pixels[:, ::-1]
    return pixels


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"images of other bands than RGB of 8 bits need the package {name}, which cannot be imported ({error}): "
            'pip install "ladderseg_fast[tiff]"'
        ) from error


def _first_line(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
