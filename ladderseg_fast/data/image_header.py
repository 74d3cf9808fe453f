"""Header of an image file: what it says before any pixel is decoded; errors name the file."""

import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, TiffImagePlugin

from .big_endian_tiff import is_big_endian_bigtiff
from .file_structure import check_exif, check_structure
from .pixel_form import PixelForm, TiffTags, pixel_form, tiff_form, tiff_pages, unknown_form

#: What Pillow's decoders raise on damaged files, besides OSError.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError),
    *(TypeError, LookupError, AttributeError, OverflowError, AssertionError),
)

#: Advice for a data set of such images.
_OR_BANDS = "; or let data.bands and data.bits say what all images of the data set have"

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


def read_header(path: Path) -> ImageHeader:
    """Reads the header and decodes nothing. Raises OSError as read_image does, as far as the header shows it."""
    check_ordinary_file(path)
    with naming(path):
        if is_big_endian_bigtiff(path):  # which Pillow would warn of
            check_structure(path)
            pages = tiff_pages(path)
            if not pages:
                raise OSError("damaged TIFF")
            return _header_of_tiff(pages, tiff_form(pages[0]))
        try:
            opened = open_image(path)
        except Image.UnidentifiedImageError:
            form = unknown_form(path)
            pages = tiff_pages(path)
            if form is None or form.fits or not pages:
                raise
            return _header_of_tiff(pages, form)
        with opened as image:
            return header_of(path, image)


def advice(form: PixelForm) -> str:
    """Advice for an image of a form that does not fit."""
    if form.more:
        return f"8-bit grey and RGB images are read: save the three bands to use as RGB{_OR_BANDS}"
    return (
        "8-bit grey and RGB images are read: save it so, its values scaled to 0..255 in a way that suits them"
        f"{_OR_BANDS}"
    )


def header_of(path: Path, image: Image.Image) -> ImageHeader:
    """Returns the header of `image`, which Pillow opened from `path` and need not have decoded."""
    check_exif(image.info.get("exif", b""))
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


def _header_of_tiff(pages: list[TiffTags], form: PixelForm) -> ImageHeader:
    """Header of a TIFF that Pillow cannot open. Raises ValueError if its tags are damaged."""
    first = pages[0]
    height, width, orientation = (first.get(tag, 1) for tag in (_TIFF_HEIGHT, _TIFF_WIDTH, _ORIENTATION))
    if not (isinstance(height, int) and isinstance(width, int) and isinstance(orientation, int)):
        raise ValueError("damaged tags")
    stored = height, width
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and stored[0] * stored[1] > 2 * limit:  # as Pillow has it
        raise Image.DecompressionBombError(f"Image size ({stored[0] * stored[1]} pixels) exceeds limit of {2 * limit}")
    size = stored[::-1] if orientation in _TURNED_SIDEWAYS else stored
    return ImageHeader("TIFF", "", size, orientation, _main_pages(pages), form, False)


def _main_pages(pages: list[TiffTags]) -> int:
    return max(1, sum(not page.get(_TIFF_PAGE, 0) & _TIFF_SECONDARY for page in pages))


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


def open_image(path: Path) -> Image.Image:
    """Opens an image as Pillow does, after check_structure; Pillow's errors are raised as they are.

    PostScript is not among the formats: Pillow would run Ghostscript for it.
    """
    check_structure(path)
    return Image.open(path, formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    Image.preinit()  # the usual formats are tried first
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def check_ordinary_file(path: Path) -> None:
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
def naming(path: Path) -> Iterator[None]:
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
        raise ValueError(f"{path}: the image has {form}, which Pillow does not read; {advice(form)}") from error
    except PermissionError as error:
        raise PermissionError(f"{path}: {error.strerror}") from error
    except _DECODER_ERRORS as error:
        raise OSError(f"{path}: cannot read the image ({error})") from error
