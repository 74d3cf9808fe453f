"""Images and annotations from files, with errors that name the file."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

#: What Pillow's decoders raise on damaged files, besides OSError.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

#: Pillow modes of more than 8 bits per channel: their conversion to RGB clips instead of scaling.
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def image_from_array(array: np.ndarray) -> Image.Image:
    """Pillow image of an uint8 array [H, W, 3] (RGB) or [H, W] (one channel)."""
    return Image.fromarray(np.ascontiguousarray(array))


def check_image_size(path: Path, size: tuple[int, int], minimum: int) -> None:
    """Raises ValueError, naming `path`, unless both sides of `size` (H, W) are at least `minimum` pixels."""
    if min(size) < minimum:
        raise ValueError(f"{path}: image is {size[0]}x{size[1]}, at least {minimum}x{minimum} (HxW) is needed")


def read_image(path: Path) -> np.ndarray:
    """[H, W, 3] uint8 RGB, upright as its EXIF orientation says.

    Raises:
        OSError: there is no such file, or it cannot be read or decoded, truncated files included.
        ValueError: the image has more than 8 bits per channel in one channel.
    """
    image = _decode(path)
    if image.mode in _DEEP_MODES:
        raise ValueError(f"{path}: images with one channel of more than 8 bits (mode {image.mode}) are not supported")
    return np.asarray(image.convert("RGB"))


def read_annotation(path: Path) -> np.ndarray:
    """[H, W] uint8: grey values, or the palette's indices; turned as read_image turns its image.

    Raises:
        OSError: as in read_image.
        ValueError: neither a grey nor a palette image of 8 bits.
    """
    image = _decode(path)
    if image.mode not in ("L", "P"):
        raise ValueError(f"{path}: an annotation is an 8-bit grey or palette image, got mode {image.mode}")
    return np.asarray(image)


def _decode(path: Path) -> Image.Image:
    """The upright image, fully read."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            # Large images are welcome here; beyond twice the limit Pillow raises, and that is reported.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except Image.UnidentifiedImageError as error:
        raise OSError(f"{path}: not an image, or of a format that Pillow does not know") from error
    except _DECODER_ERRORS as error:
        raise OSError(f"{path}: cannot read the image ({error})") from error
