"""Form of the pixels in an image file. Decoders make 8 bits of them and do not say what they dropped."""

import re
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, TiffImagePlugin

from .file_structure import check_tags

#: Bytes that hold the header of any format that is looked at here.
_HEAD = 1 << 16
#: Bytes that hold the header of a PNG, of which a data set has thousands.
_PNG_HEAD = 26

#: Tags of one page of a TIFF, by their numbers.
TiffTags = TiffImagePlugin.ImageFileDirectory_v2

#: First bytes of a TIFF and of a BigTIFF, in either order of bytes.
BIG_ENDIAN_BIGTIFF = b"MM\0+"
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", BIG_ENDIAN_BIGTIFF)
#: TIFF 6.0's tags.
_BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT = 258, 262, 277, 338, 339
#: Photometric interpretations: what they are called, and the bands that they are made of.
_TIFF_COLOURS: dict[int | None, tuple[str, int]] = {
    0: ("grey (miniswhite)", 1),
    1: ("grey (minisblack)", 1),
    2: ("RGB", 3),
    3: ("palette", 1),
    5: ("CMYK", 4),
    6: ("YCbCr", 3),
    8: ("Lab", 3),
}
#: Photometric interpretations whose channels are bands by themselves.
_TIFF_PLAIN = (1, 2)
_TIFF_KINDS = {1: "", 2: "signed ", 3: "floating-point ", 4: "", 5: "complex ", 6: "complex "}
#: TIFF's values for an additional band that is transparency.
_TIFF_ALPHA = (1, 2)

#: PNG's colour types: what they are called, and their channels.
_PNG_COLOURS = {
    0: ("grey", 1),
    2: ("RGB", 3),
    3: ("palette", 1),
    4: ("grey with alpha", 2),
    6: ("RGB with alpha", 4),
}
_BANDS = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "four bands"}

#: Pillow's modes of more than 8 bits: of formats without a reader below.
_DEEP_MODES = {"F": (32, "floating-point "), "I": (32, "signed ")}


class PixelForm(NamedTuple):
    """Channels of one pixel as the file stores them."""

    colours: str
    """Words such as "RGB" or "grey with alpha"."""
    bits: int = 8
    """Width of the widest channel."""
    kind: str = ""
    """"signed ", "floating-point " or "complex ", else empty."""
    more: int = 0
    """Bands besides those of the colours, transparency not counted."""
    channels: int = 3
    """Number of all channels, transparency counted."""
    plain: bool = True
    """Whether each channel is a band by itself, of as many bits as the others, with 0 for the darkest: no palette, no
    CMYK."""

    @property
    def alpha(self) -> bool:
        """Whether a channel is marked as transparency."""
        return "alpha" in self.colours

    @property
    def fits(self) -> bool:
        """Whether 8-bit channels of colour and transparency hold the whole pixel."""
        return self.bits <= 8 and not self.kind and not self.more

    def __str__(self) -> str:
        if not self.more:
            return f"{self.bits} {self.kind}bits per channel, {self.colours}"
        bands = "1 more band" if self.more == 1 else f"{self.more} more bands"
        return f"{self.bits} {self.kind}bits per channel, {self.colours} and {bands} not marked as transparency"


def pixel_form(path: Path, image: Image.Image) -> PixelForm:
    """Finds the form of `image`, which Pillow opened from `path` and need not have decoded.

    Pillow's word is taken for formats that have 8 bits by definition.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return tiff_form(image.tag_v2)
    reader = _READERS.get(image.format or "")
    form = None if reader is None else reader(_head(path, _PNG_HEAD if image.format == "PNG" else _HEAD))
    if form is not None:
        return form
    bits, kind = (16, "") if image.mode.startswith("I;16") else _DEEP_MODES.get(image.mode, (8, ""))
    colours = "grey" if image.mode.startswith(("I", "F")) else image.mode
    return PixelForm(colours, bits, kind, 0, len(image.getbands()), image.mode in ("L", "RGB"))


def unknown_form(path: Path) -> PixelForm | None:
    """Finds the form of a TIFF or JPEG that Pillow cannot open; None if the file is neither, or damaged."""
    head = _head(path)
    if head[:2] == b"\xff\xd8":
        return _jpeg(head)
    pages = tiff_pages(path)
    try:
        return tiff_form(pages[0]) if pages else None
    except TypeError:  # damaged tags
        return None


def _head(path: Path, length: int = _HEAD) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(length)


def _png(head: bytes) -> PixelForm:
    # signature, length and name of IHDR, width, height, then these two (PNG 1.2, section 11.2.2)
    colours, channels = _PNG_COLOURS.get(head[25], (f"colour type {head[25]}", 1))
    return PixelForm(colours, head[24], channels=channels, plain=head[25] != 3)


def tiff_form(tags: TiffTags) -> PixelForm:
    """Finds the form that the tags of a page tell."""
    samples = tags.get(_SAMPLES, 1)
    widths = _numbers(tags.get(_BITS, 1))
    formats = {_TIFF_KINDS.get(number, "") for number in _numbers(tags.get(_FORMAT, 1))}
    colours, bands = _TIFF_COLOURS.get(tags.get(_PHOTOMETRIC), (f"photometric {tags.get(_PHOTOMETRIC)}", samples))
    more = max(0, samples - bands)
    if more == 1 and _numbers(tags.get(_EXTRA, ()))[:1] in [(kind,) for kind in _TIFF_ALPHA]:
        colours, more = f"{colours} with alpha", 0
    plain = tags.get(_PHOTOMETRIC) in _TIFF_PLAIN and len(set(widths)) == 1
    return PixelForm(colours, max(widths), max(formats), more, samples, plain)


def tiff_pages(path: Path) -> list[TiffTags]:
    """Reads the tags of all pages of a TIFF; there are none if the file is no TIFF, or damaged."""
    with open(path, "rb") as file:
        if file.read(4) not in _TIFF_SIGNATURES:
            return []
        try:
            check_tags(file, path.stat().st_size)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of damage, which Pillow warns of, errors tell
                return list(_tiff_pages(file))
        except (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error):
            return []  # damaged: the caller's message says that it is not readable


def _tiff_pages(file: BinaryIO) -> Iterator[TiffTags]:
    header = file.read(8)
    if header[2:4] in (b"+\0", b"\0+"):
        header += file.read(8)
    order = header[:2]
    if header[:4] == BIG_ENDIAN_BIGTIFF:  # which Pillow knows by its other order of bytes only
        header = b"II+\0" + header[4:]
    place, places = TiffTags(header, prefix=order).next, set[int]()
    while place:
        if place in places:
            raise ValueError("the list of pages is a circle")
        places.add(place)
        tags = TiffTags(header, prefix=order)
        file.seek(place)
        tags.load(file)
        yield tags
        place = tags.next


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _jpeg(head: bytes) -> PixelForm | None:
    """Reads the start of frame (ITU T.81, B.2.2), which follows the signature and other segments."""
    place = 2
    while place + 10 <= len(head) and head[place] == 0xFF:
        marker, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            count = head[place + 9]
            return PixelForm(_BANDS.get(count, f"{count} bands"), head[place + 4], channels=count)
        place += 2 + length
    return None


def _jpeg2000(head: bytes) -> PixelForm | None:
    """Reads SIZ after the start of the codestream (ITU T.800, A.5.1): bits less one, and the sign, of each band."""
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(head) < start + 42:
        return None
    count = int.from_bytes(head[start + 40 : start + 42], "big")
    depths = head[start + 42 : start + 42 + 3 * count : 3]
    kind = "signed " if any(depth & 0x80 for depth in depths) else ""
    bits = max(depth & 0x7F for depth in depths) + 1
    return PixelForm(_BANDS.get(count, f"{count} bands"), bits, kind, channels=count)


def _avif(head: bytes) -> PixelForm | None:
    """Reads the box av1C (AV1 in ISOBMFF, 2.3.3): flags of high bit depth, and of twelve bits."""
    start = head.find(b"av1C")
    if start < 0 or len(head) < start + 7:
        return None
    flags = head[start + 6]
    return PixelForm("RGB", (12 if flags & 0x20 else 10) if flags & 0x40 else 8)


def _pnm(head: bytes) -> PixelForm | None:
    """Reads the greatest value, the fourth word of a header that may hold comments; bitmaps have none."""
    words = re.sub(rb"#[^\r\n]*", b"", head).split(None, 4)
    if words[0] not in (b"P2", b"P3", b"P5", b"P6") or len(words) < 4 or not words[3].isdigit():
        return None
    colours, channels = ("RGB", 3) if words[0] in (b"P3", b"P6") else ("grey", 1)
    return PixelForm(colours, 16 if int(words[3]) > 255 else 8, channels=channels)


def _sgi(head: bytes) -> PixelForm:
    count = int.from_bytes(head[10:12], "big")
    return PixelForm(_BANDS.get(count, "grey"), 8 * head[3], channels=count)


#: By Pillow's name of the format: what finds the form in the file's first bytes, or None where they do not say.
_READERS: dict[str, Callable[[bytes], PixelForm | None]] = {
    "AVIF": _avif,
    "JPEG2000": _jpeg2000,
    "PNG": _png,
    "PPM": _pnm,
    "SGI": _sgi,
}
