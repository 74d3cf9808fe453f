"""Images and label images from files, with errors that name the file."""

import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

#: What Pillow's decoders raise on damaged files, besides OSError.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

#: Pillow modes of more than 8 bits per channel: their conversion to RGB clips instead of scaling.
_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_DEEP_MODES = ("F", *_INTEGER_MODES)

#: EXIF's tag of the orientation, and its values that exchange height and width.
_ORIENTATION, _TURNED_SIDEWAYS = 0x0112, (5, 6, 7, 8)


class ImageHeader(NamedTuple):
    """What a file says of its image before any pixel is decoded."""

    format: str
    """Pillow's name, such as "PNG"."""
    mode: str
    """Pillow's mode, such as "RGB"."""
    size: tuple[int, int]
    """(height, width), upright."""
    orientation: int
    """EXIF's: 1 where the image is stored upright."""
    frames: int
    """Pictures in the file; 1 unless it is an animation or has pages."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) as stored, before the EXIF orientation is applied."""
        return self.size[::-1] if self.orientation in _TURNED_SIDEWAYS else self.size


def image_from_array(array: np.ndarray) -> Image.Image:
    """Pillow image of an uint8 array [H, W, 3] (RGB) or [H, W] (one channel)."""
    return Image.fromarray(np.ascontiguousarray(array))


def check_image_size(path: Path, size: tuple[int, int], minimum: int) -> None:
    """Raises ValueError, naming `path`, unless both sides of `size` (H, W) are at least `minimum` pixels."""
    if min(size) < minimum:
        raise ValueError(f"{path}: image is {size[0]}x{size[1]}, at least {minimum}x{minimum} (HxW) is needed")


def read_image(path: Path) -> np.ndarray:
    """[H, W, 3] uint8 RGB, upright as its EXIF orientation says. Transparency is left out.

    Raises:
        OSError: there is no such file, or it cannot be read or decoded: empty and truncated files, directories, loops
            of symbolic links, and headers that announce more pixels than Pillow accepts.
        ValueError: the image has more than 8 bits per channel in one channel, or is animated.
    """
    header, image = _decode(path)
    check_image_header(path, header)
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ValueError(f"{path}: images of mode {image.mode} are not supported") from error


def read_annotation(path: Path) -> np.ndarray:
    """[H, W] uint8: grey values, the palette's indices, or 0 and 1; turned as read_image turns its image.

    Raises:
        OSError: as in read_image.
        ValueError: not a PNG, or neither a grey nor a palette image of up to 8 bits.
    """
    header, image = _decode(path)
    check_annotation_header(path, header)
    values = np.asarray(image)
    if header.mode == "1":
        return values.astype(np.uint8)
    if header.mode == "L":
        return values // _grey_step(path)
    return values


def read_instance_ids(path: Path) -> np.ndarray:
    """[H, W] integers: the grey values of up to 16 bits in one of Cityscapes' *_instanceIds.png.

    Raises:
        OSError: as in read_image.
        ValueError: not a PNG, or not a grey image.
    """
    header, image = _decode(path)
    if header.format != "PNG" or header.mode not in ("L", *_INTEGER_MODES):
        raise ValueError(
            f"{path}: instance ids are a grey PNG of up to 16 bits, but this is {header.format}, mode {header.mode}"
        )
    return np.asarray(image)


def read_header(path: Path) -> ImageHeader:
    """The header alone, which costs no decoding. Raises OSError as read_image does, as far as the header shows it."""
    _check_ordinary_file(path)
    with _naming(path), Image.open(path) as image:
        return _header(image)


def check_image_header(path: Path, header: ImageHeader) -> None:
    """Raises ValueError if `path`, whose header is `header`, is no image that read_image reads."""
    if header.mode in _DEEP_MODES:
        raise ValueError(f"{path}: images with one channel of more than 8 bits (mode {header.mode}) are not supported")
    if header.frames > 1:
        raise ValueError(f"{path}: a single picture is expected, but the file holds {header.frames} (an animation?)")


def check_annotation_header(path: Path, header: ImageHeader) -> None:
    """Raises ValueError if `path`, whose header is `header`, is no label image that read_annotation reads."""
    if header.format != "PNG":
        raise ValueError(f"{path}: labels must be a PNG file, but this is {header.format}")
    if header.mode not in ("L", "P", "1"):
        hint = ": its values would be lost" if header.mode in _DEEP_MODES else ": labels are values, not colours"
        raise ValueError(f"{path}: an annotation is an 8-bit grey or palette image, got mode {header.mode}{hint}")
    if header.frames > 1:
        raise ValueError(f"{path}: a single label image is expected, but the file holds {header.frames}")


def verify_checksums(path: Path) -> None:
    """Raises OSError if a checksum in the file is wrong, as far as its format has any: decoding a PNG ignores most."""
    with _naming(path), Image.open(path) as image:
        image.verify()


def _decode(path: Path) -> tuple[ImageHeader, Image.Image]:
    """The header and the upright image, fully read."""
    _check_ordinary_file(path)
    with _naming(path), Image.open(path) as image:
        header = _header(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return header, image


def _header(image: Image.Image) -> ImageHeader:
    # A PNG may have its EXIF data behind the pixels, and Pillow would decode these to get there.
    known = image.format != "PNG" or "exif" in image.info
    orientation = image.getexif().get(_ORIENTATION, 1) if known else 1
    size = image.size if orientation in _TURNED_SIDEWAYS else image.size[::-1]
    # A camera's MPO file is a photograph, with a preview or the other eye's view behind it.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    return ImageHeader(image.format or "", image.mode, size, orientation, frames)


def _grey_step(path: Path) -> int:
    """What one step of a grey PNG's values is after decoding: those of 2 and 4 bits get stretched to 0..255."""
    with open(path, "rb") as file:
        depth = file.read(25)[24]  # signature, length and name of IHDR, width, height (PNG 1.2, section 11.2.2)
    return {2: 85, 4: 17, 8: 1}[depth]


def _check_ordinary_file(path: Path) -> None:
    """Raises OSError unless `path` is a file, and one with something in it."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        reason = "a symbolic link to no file" if path.is_symlink() else "no such file"
        raise FileNotFoundError(f"{path}: {reason}") from error
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path}: a directory, where an image file is expected")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path}: not an ordinary file")
    if status.st_size == 0:
        raise OSError(f"{path}: the file is empty")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what opening and decoding `path` raises into OSError with its name."""
    try:
        with warnings.catch_warnings():
            # Large images are welcome here; beyond twice the limit Pillow raises, and that is reported.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.UnidentifiedImageError as error:
        raise OSError(f"{path}: not an image, or of a format that Pillow does not know") from error
    except PermissionError as error:
        raise PermissionError(f"{path}: {error.strerror}") from error
    except _DECODER_ERRORS as error:
        raise OSError(f"{path}: cannot read the image ({error})") from error
