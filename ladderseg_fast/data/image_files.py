"""Reading of images and label images; errors name the file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from .band_files import check_tiff_packages, png_orientation, read_deep_png, read_tiff_bands, turned_upright
from .big_endian_tiff import as_ordinary_tiff, is_big_endian_bigtiff
from .file_structure import check_chunks, check_exif
from .image_form import RGB, ImageForm
from .image_header import ImageHeader, advice, check_ordinary_file, header_of, naming, open_image, read_header
from .pixel_form import tiff_pages

#: Pillow's modes of one channel of more than 8 bits, without a sign.
_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")

#: Pillow's modes with a band of transparency, and what is said of label images that use it.
_WITH_ALPHA = ("LA", "RGBA")
_TRANSPARENT = "a label image may not have transparency, which says nothing of a class: save it without"


def image_from_array(array: np.ndarray) -> Image.Image:
    """Makes a Pillow image of an uint8 array [H, W, 3] (RGB), or of one channel [H, W], uint8 or float32."""
    return Image.fromarray(np.ascontiguousarray(array))


def check_image_size(path: Path, size: tuple[int, int], minimum: int) -> None:
    """Raises ValueError, naming `path`, unless both sides of `size` (H, W) are at least `minimum` pixels."""
    if min(size) < minimum:
        raise ValueError(f"{path}: image is {size[0]}x{size[1]}, at least {minimum}x{minimum} (HxW) is needed")


def read_image(path: Path, form: ImageForm = RGB) -> np.ndarray:
    """Reads an image of the form `form`: [H, W, bands] uint8 or uint16, upright according to its EXIF orientation.

    For RGB of 8 bits, what these hold without loss is converted, and transparency is dropped. A TIFF's is checked
    first: its band may be another one, such as near infrared, that a program marked as transparency. For any other form
    the values are those of the file, transparency among them.

    Raises:
        OSError: there is no such file, or it cannot be read or decoded: empty and truncated files, directories, loops
            of symbolic links, and headers that announce more pixels than Pillow accepts.
        ValueError: the image is of another form, or animated; for RGB, a TIFF has a band of transparency with values
            between none and full.
        MissingPackageError: it needs tifffile and imagecodecs, and these are not installed.
    """
    return _read_rgb(path) if form == RGB else _read_bands(path, form)


def _read_rgb(path: Path) -> np.ndarray:
    header, image = _decode(path, check_image_header)
    if header.format == "TIFF" and image.mode != "LAB" and "A" in image.getbands():  # Lab's A is a colour
        _check_alpha_band(path, image, header)
    if image.mode == "P" and image.palette is None:
        raise OSError(f"{path}: damaged: a palette image without a palette")
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ValueError(f"{path}: images of mode {image.mode} are not supported") from error


def _read_bands(path: Path, form: ImageForm) -> np.ndarray:
    header = read_header(path)
    check_image_header(path, header, form)
    if header.format == "TIFF":
        stored, orientation = read_tiff_bands(path), header.orientation
    elif header.format == "PNG" and form.bits > 8 and form.bands > 1:
        stored, orientation = read_deep_png(path), png_orientation(path)
    else:
        _, image = _decode(path, partial(check_image_header, form=form))
        stored, orientation = np.atleast_3d(np.asarray(image)), 1  # it is upright already
    if stored.ndim != 3:  # such as volumes, which TIFF has too
        raise ValueError(f"{path}: {form} are expected, but reading it gives an array of {stored.ndim} dimensions")
    if stored.shape[2] != form.bands or stored.dtype.kind not in "iu" or (stored.size and stored.max() > form.most):
        raise ValueError(
            f"{path}: {form} are expected, but reading it gives {stored.shape[2]} of {stored.dtype.name}"
            + (" (one colour is transparent: save it without)" if header.transparent else "")
        )
    return np.ascontiguousarray(turned_upright(stored, orientation), form.dtype)


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
    check_ordinary_file(path)
    with naming(path), open_image(path) as image:
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


def check_image_header(path: Path, header: ImageHeader, form: ImageForm = RGB) -> None:
    """Raises ValueError if `path`, whose header is `header`, is no image that read_image reads as `form`.

    Raises MissingPackageError if that needs packages that are not there.
    """
    if form == RGB:
        if not header.form.fits:
            unread = "" if header.mode else ", which Pillow does not read"
            raise ValueError(f"{path}: the image has {header.form}{unread}; {advice(header.form)}")
    else:
        _check_bands(path, header, form)
    if header.frames > 1:
        what = "pages are not bands: save it as one page" if header.format == "TIFF" else "an animation?"
        raise ValueError(f"{path}: a single picture is expected, but the file holds {header.frames} ({what})")


def _check_bands(path: Path, header: ImageHeader, form: ImageForm) -> None:
    """Raises ValueError unless the image has exactly the bands of `form`, in a file that keeps them."""
    found = header.form
    if (found.channels, found.bits, found.kind) != (*form, "") or not found.plain:
        channels = "1 channel" if found.channels == 1 else f"{found.channels} channels"
        raise ValueError(
            f"{path}: {form} are expected, but the image has {channels} of {found.bits} {found.kind}bits "
            f"({found.colours})"
        )
    if header.format == "TIFF" or (header.format == "PNG" and form.bits > 8 and form.bands > 1):
        check_tiff_packages()
    elif header.format != "PNG" and form != (1, 8):
        raise ValueError(f"{path}: {form} are read from TIFF and PNG, but this is {header.format}")


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
    if tiff_pages(path):  # of which Pillow cannot open all; TIFF has none
        return
    with naming(path), open_image(path) as image:
        image.verify()


def _check_alpha_band(path: Path, image: Image.Image, header: ImageHeader) -> None:
    """Raises ValueError unless the alpha of `image` is a mask, of nothing but 0 and 255."""
    between = sum(image.getchannel("A").histogram()[1:255])
    if between:
        raise ValueError(
            f"{path}: the image has {header.form}, but the band called alpha has values between 0 and 255 in {between} "
            "pixels: if it is another band (near infrared?), data.bands = 4 reads it; if it is smooth transparency, "
            "save the other three as RGB"
        )


def _decode(path: Path, check: Callable[[Path, ImageHeader], None]) -> tuple[ImageHeader, Image.Image]:
    """Reads the header and, if `check` accepts it, the whole image, and turns it upright."""
    check_ordinary_file(path)
    ordinary: BinaryIO | None = None
    with naming(path):
        other = is_big_endian_bigtiff(path)
    if other:
        check(path, read_header(path))
        ordinary = as_ordinary_tiff(path)
    with naming(path):
        opened = open_image(path) if ordinary is None else Image.open(ordinary, formats=("TIFF",))
    with opened as image:
        with naming(path):
            header = header_of(path, image)
        check(path, header)
        with naming(path):
            if header.format == "PNG":
                check_chunks(path)
            image.load()
            check_exif(image.info.get("exif", b""))  # a PNG may have it behind its pixels
            ImageOps.exif_transpose(image, in_place=True)
        return header, image
