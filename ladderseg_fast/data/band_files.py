"""Pixels of images whose bands are more or wider than RGB of 8 bits, as they are in the file.

Pillow reads PNGs of 8 bits and grey ones of 16. It makes 8 bits of the other PNGs without a word, and knows few TIFFs
of other forms, so these are read by tifffile and imagecodecs, the extra [tiff].
"""

import importlib
import io
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ..models.weights import MissingPackageError
from .file_structure import check_exif
from .image_header import naming
from .lzw import check_all_lzw

#: EXIF's tag of the orientation.
_ORIENTATION = 0x0112
#: Bytes of a PNG's signature, and of the length and the name before a chunk's content and the checksum behind it.
_SIGNATURE, _BEFORE, _BEHIND = 8, 8, 4
#: Where the first chunk, the header, ends.
_HEADER_END = _SIGNATURE + _BEFORE + 13 + _BEHIND
#: Kinds of chunks with a text, the first words of those that may hold an orientation, and the bytes of a keyword.
_TEXTS, _KEYWORDS, _KEYWORD = (b"tEXt", b"zTXt", b"iTXt"), (b"Raw profile type ", b"XML:com.adobe.xmp\0"), 80
_EXIF_TEXT = "Raw profile type exif"
#: Bytes of a chunk that is looked into: as many as Pillow takes of all texts.
_LARGEST = 1 << 26


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
            if max(page.databytecounts, default=0) > path.stat().st_size:  # before tifffile makes room for them
                raise ValueError("the file is truncated: it has fewer bytes than its pixels")
            check_all_lzw(page)
            pixels: np.ndarray = page.asarray()
            planes = page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    except MemoryError:
        raise
    except Exception as error:  # of tifffile, and of the codecs: neither documents which
        raise OSError(f"{path}: cannot read the image ({_first_line(error)})") from error
    if pixels.ndim == 2:
        return pixels[..., None]
    return np.moveaxis(pixels, 0, 2) if planes and pixels.ndim == 3 else pixels


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
    except (OSError, MemoryError):
        raise
    except Exception as error:  # imagecodecs.PngError, and errors of the text that it makes of libpng's
        raise OSError(f"{path}: cannot read the image ({_first_line(error)})") from error
    return pixels


def png_orientation(path: Path) -> int:
    """Finds the orientation that Pillow would turn a PNG by; 1 if there is none, or it is not 1 to 8.

    It may be in EXIF data, in text that holds such data or XMP, and before the pixels or behind them. Pillow is asked
    about a PNG of one pixel with the same chunks.

    Raises:
        OSError: the file cannot be read, or these data are damaged.
    """
    chunks = _chunks_with_orientation(path)
    if not chunks:
        return 1
    picture = io.BytesIO()
    Image.new("L", (1, 1)).save(picture, "PNG")
    content = picture.getvalue()
    content = content[:_HEADER_END] + b"".join(chunks) + content[_HEADER_END:]
    with naming(path), Image.open(io.BytesIO(content)) as image:
        check_exif(image.info.get("exif", b""))
        # The text has EXIF's bytes as hexadecimal numbers behind three lines.
        check_exif(bytes.fromhex("".join(image.info.get(_EXIF_TEXT, "").split("\n")[3:])))
        orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _chunks_with_orientation(path: Path) -> list[bytes]:
    """Chunks of a PNG that an orientation may be in."""
    found = []
    with open(path, "rb") as file:
        file.seek(_SIGNATURE)
        while len(before := file.read(_BEFORE)) == _BEFORE:
            length, kind = int.from_bytes(before[:4], "big"), before[4:]
            if kind == b"eXIf" or kind in _TEXTS:
                start = file.tell()
                if kind == b"eXIf" or file.read(min(length, _KEYWORD)).startswith(_KEYWORDS):
                    if length > _LARGEST:
                        raise OSError(f"{path}: damaged: a chunk {kind.decode()} of {length} bytes")
                    file.seek(start)
                    found.append(_chunk(kind, file.read(length)))
                file.seek(start)
            file.seek(length + _BEHIND, 1)
    return found


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


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
