"""Reading of images and label images; errors name the file."""

import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from .pixel_form import PixelForm, pixel_form, unknown_form

#: What Pillow's decoders raise on damaged files, besides OSError.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

#: Pillow's modes of one channel of more than 8 bits, without a sign.
_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")

#: Pillow's modes with a band of transparency, and what is said of label images that use it.
_WITH_ALPHA = ("LA", "RGBA")
_TRANSPARENT = "a label image may not have transparency, which says nothing of a class: save it without"

#: EXIF's tag of the orientation, and its values that exchange height and width.
_ORIENTATION, _TURNED_SIDEWAYS = 0x0112, (5, 6, 7, 8)

#: TIFF's tags of the size as stored, and of what a page is: bits for a smaller copy and for a mask of another.
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_PAGE, _TIFF_SECONDARY = 256, 257, 254, 0b101


class ImageHeader(NamedTuple):
    """Facts about an image that its file tells before any pixel is decoded."""

    format: str
    """Name in Pillow, such as "PNG"."""
    mode: str
    """Pillow's mode, such as "RGB"."""
    size: tuple[int, int]
    """Height and width, upright."""
    orientation: int
    """Orientation in EXIF: 1 if the image is stored upright."""
    frames: int
    """Pictures in the file; 1 unless it is an animation or has pages."""
    form: PixelForm
    """Form of a stored pixel."""
    transparent: bool
    """Whether a palette's entry, or one grey or colour, is transparent."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width as stored, before the EXIF orientation is applied."""
        return self.size[::-1] if self.orientation in _TURNED_SIDEWAYS else self.size


def image_from_array(array: np.ndarray) -> Image.Image:
    """Makes a Pillow image of an uint8 array [H, W, 3] (RGB) or [H, W] (one channel)."""
    return Image.fromarray(np.ascontiguousarray(array))


def check_image_size(path: Path, size: tuple[int, int], minimum: int) -> None:
    """Raises ValueError, naming `path`, unless both sides of `size` (H, W) are at least `minimum` pixels."""
    if min(size) < minimum:
        raise ValueError(f"{path}: image is {size[0]}x{size[1]}, at least {minimum}x{minimum} (HxW) is needed")


def read_image(path: Path) -> np.ndarray:
    """Reads an image: [H, W, 3] uint8 RGB, upright according to its EXIF orientation.

    Transparency is dropped. A TIFF's is checked first: its band may be another one, such as near infrared, that a
    program marked as transparency.

    Raises:
        OSError: there is no such file, or it cannot be read or decoded: empty and truncated files, directories, loops
            of symbolic links, and headers that announce more pixels than Pillow accepts.
        ValueError: the image has more than 8 bits per channel or further bands, or is animated; a TIFF has a band of
            transparency with values between none and full.
    """
    header, image = _decode(path, check_image_header)
    if header.format == "TIFF" and image.mode != "LAB" and "A" in image.getbands():  # Lab's A is a colour
        _check_alpha_band(path, image, header)
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ValueError(f"{path}: images of mode {image.mode} are not supported") from error


def read_annotation(path: Path, coloured: bool = False) -> np.ndarray:
    """Reads a label image: [H, W] uint8 grey values, palette indices, or 0 and 1; turned as read_image does.

    If `coloured`, RGB images are read too: [H, W, 3] uint8.

    Raises:
        OSError: as in read_image.
        ValueError: not a PNG, not a grey or palette image of up to 8 bits (or an RGB one, if `coloured`), or one with
            transparency.
    """
    header, image = _decode(path, partial(check_annotation_header, coloured=coloured))
    values = np.asarray(image)
    if header.mode in _WITH_ALPHA:
        if values[..., -1].min(initial=255) < 255:
            raise ValueError(f"{path}: {_TRANSPARENT}")
        values = values[..., 0] if header.mode == "LA" else values[..., :3]
    if header.mode == "1":
        return values.astype(np.uint8)
    if header.mode == "L":
        return values // {2: 85, 4: 17}.get(header.form.bits, 1)  # decoders stretch values of few bits to 0..255
    return values


def read_palette(path: Path) -> np.ndarray | None:
    """Reads the colours of a palette image, [N, 3] uint8 RGB, and decodes nothing; None if there is no palette.

    Raises OSError as read_image does.
    """
    _check_ordinary_file(path)
    with _naming(path), Image.open(path) as image:
        colours = image.getpalette()
    return None if colours is None else np.array(colours, np.uint8).reshape(-1, 3)


def read_instance_ids(path: Path) -> np.ndarray:
    """Reads the instance ids of Cityscapes' *_instanceIds.png: [H, W] integers of up to 16 bits.

    Raises:
        OSError: as in read_image.
        ValueError: not a PNG, or not a grey image.
    """
    header, image = _decode(path, lambda path, header: None)
    if header.format != "PNG" or header.mode not in ("L", *_INTEGER_MODES):
        raise ValueError(
            f"{path}: instance ids are a grey PNG of up to 16 bits, but this is {header.format}, mode {header.mode}"
        )
    return np.asarray(image)


def read_header(path: Path) -> ImageHeader:
    """Reads the header and decodes nothing. Raises OSError as read_image does, as far as the header shows it."""
    _check_ordinary_file(path)
    with _naming(path), Image.open(path) as image:
        return _header(path, image)


def check_image_header(path: Path, header: ImageHeader) -> None:
    """Raises ValueError if `path`, whose header is `header`, is no image that read_image reads."""
    if not header.form.fits:
        raise ValueError(f"{path}: the image has {header.form}; {_advice(header.form)}")
    if header.frames > 1:
        raise ValueError(f"{path}: a single picture is expected, but the file holds {header.frames} (an animation?)")


def check_annotation_header(path: Path, header: ImageHeader, coloured: bool = False) -> None:
    """Raises ValueError if `path`, whose header is `header`, is no label image that read_annotation reads."""
    if header.format in ("JPEG", "MPO"):
        raise ValueError(
            f"{path}: labels must be a PNG file, but this is JPEG, whose compression changes the values: export the "
            "labels as PNG from where they were drawn; converting this file would keep the wrong values"
        )
    if header.format != "PNG":
        raise ValueError(f"{path}: labels must be a PNG file, but this is {header.format}")
    if not header.form.fits:
        raise ValueError(
            f"{path}: an annotation is an 8-bit grey or palette image, but this has {header.form}: its values would "
            "be lost"
        )
    if header.mode not in ("L", "LA", "P", "1") and not (coloured and header.mode in ("RGB", "RGBA")):
        raise ValueError(
            f"{path}: an annotation is an 8-bit grey or palette image, got mode {header.mode}: labels are values, not "
            "colours, unless a classes.toml (--data folder) lists the classes' colours"
        )
    if header.transparent:
        raise ValueError(f"{path}: {_TRANSPARENT}")
    if header.frames > 1:
        raise ValueError(f"{path}: a single label image is expected, but the file holds {header.frames}")


def verify_checksums(path: Path) -> None:
    """Raises OSError if a checksum in the file is wrong, as far as its format has any: decoding a PNG ignores most."""
    with _naming(path), Image.open(path) as image:
        image.verify()


def _advice(form: PixelForm) -> str:
    """Advice for an image of a form that does not fit."""
    if form.more:
        return "8-bit grey and RGB images are read: save the three bands to use as RGB"
    return "8-bit grey and RGB images are read: save it so, its values scaled to 0..255 in a way that suits them"


def _check_alpha_band(path: Path, image: Image.Image, header: ImageHeader) -> None:
    """Raises ValueError unless the alpha of `image` is a mask, of nothing but 0 and 255."""
    between = sum(image.getchannel("A").histogram()[1:255])
    if between:
        raise ValueError(
            f"{path}: the image has {header.form}, but the band called alpha has values between 0 and 255 in {between} "
            "pixels: if it is another band (near infrared?) or smooth transparency, save the other three as RGB"
        )


def _decode(path: Path, check: Callable[[Path, ImageHeader], None]) -> tuple[ImageHeader, Image.Image]:
    """Reads the header and, if `check` accepts it, the whole image, and turns it upright."""
    _check_ordinary_file(path)
    with _naming(path):
        opened = Image.open(path)
    with opened as image:
        with _naming(path):
            header = _header(path, image)
        check(path, header)
        with _naming(path):
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        return header, image


def _header(path: Path, image: Image.Image) -> ImageHeader:
    # A PNG may have its EXIF data behind the pixels, and Pillow would decode these to get there.
    known = image.format != "PNG" or "exif" in image.info
    orientation = image.getexif().get(_ORIENTATION, 1) if known else 1
    stored = image.size[::-1]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Releases of Pillow differ in whether they have turned this size already.
        stored = image.tag_v2[_TIFF_HEIGHT], image.tag_v2[_TIFF_WIDTH]
    size = stored[::-1] if orientation in _TURNED_SIDEWAYS else stored
    form, transparency = pixel_form(path, image), image.info.get("transparency")
    # For palettes a byte an entry, or the number of one; else the one transparent value.
    opaque = transparency is None or (isinstance(transparency, bytes) and set(transparency) <= {255})
    return ImageHeader(image.format or "", image.mode, size, orientation, _frames(image), form, not opaque)


def _frames(image: Image.Image) -> int:
    """Counts the pictures in the file that are no smaller copies, masks or previews of another."""
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO":  # a camera's photograph, with a preview or the other eye's view behind it
        return 1
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or frames == 1:
        return frames
    pages = 0
    for page in range(frames):
        image.seek(page)
        pages += not image.tag_v2.get(_TIFF_PAGE, 0) & _TIFF_SECONDARY
    image.seek(0)
    return max(1, pages)


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
    """Turns errors of opening and decoding `path` into OSError with its name."""
    try:
        with warnings.catch_warnings():
            # Large images are welcome here; beyond twice the limit Pillow raises, and that is reported.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.UnidentifiedImageError as error:
        form = unknown_form(path)
        if form is None:
            raise OSError(f"{path}: not an image, or of a format that Pillow does not know") from error
        if form.fits:
            raise OSError(f"{path}: damaged, or of a variety that Pillow does not know ({form})") from error
        raise ValueError(f"{path}: the image has {form}, which Pillow does not read; {_advice(form)}") from error
    except PermissionError as error:
        raise PermissionError(f"{path}: {error.strerror}") from error
    except _DECODER_ERRORS as error:
        raise OSError(f"{path}: cannot read the image ({error})") from error
