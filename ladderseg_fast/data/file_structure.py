"""Look at what an image file announces, before a decoder makes room for it.

Decoders believe some of it: a list of tags that all point to the same bytes makes each tag a copy of them, and pages
that share such a list make it again. Sizes in pixels are limited by Pillow, which looks at them before it decodes.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

#: Pages of a TIFF, and tags of all its pages together, at most. Files of scanned books have hundreds of pages.
_MOST_PAGES, _MOST_TAGS = 10_000, 200_000
#: Bytes of tags that may point to the same place, besides as many again as the file has.
_SHARED = 1 << 16

#: Bytes of one value, by TIFF's types 1 to 18 (TIFF 6.0, section 2; BigTIFF).
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_EXIF = b"Exif\0\0"
#: Encapsulated PostScript, with and without a preview.
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")

#: Bits that a byte of a deflate stream can become at most (zlib, technical details).
_MOST_INFLATED = 8 * 1032
#: Channels of a pixel, by PNG's colour types.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def check_structure(path: Path) -> None:
    """Raises ValueError if the file is none to be given to a decoder.

    - Its tags (TIFF, EXIF) would take more memory than the file has bytes, or be very many, or their pages a circle.
    - The canvas of a WebP is larger than Pillow's limit, or a PNG too short for its pixels.
    - It is PostScript, for which Pillow runs another program.
    """
    with open(path, "rb") as file:
        head = file.read(32)
        length = file.seek(0, io.SEEK_END)
        if head[:4] in _TIFF:
            check_tags(file, length)
        elif head[:2] == _JPEG:
            check_exif(b"".join(_exif_segments(file)))
        elif head[:8] == _PNG:
            _check_png(head, length)
        elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            _check_webp(head)
        elif head.startswith(_POSTSCRIPT):
            raise ValueError("PostScript is not read, since it is a program to be run: save it as PNG")


def check_chunks(path: Path) -> None:
    """Raises ValueError if a chunk of the PNG `path` is longer than the file: Pillow makes room for the rest of it."""
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(len(_PNG))
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[:4], "big")
            if length > size:
                raise ValueError(f"image file is truncated: a chunk has {length} bytes, the file {size}")
            file.seek(length + 4, io.SEEK_CUR)


def check_exif(exif: bytes) -> None:
    """Raises ValueError if the tags in `exif`, with or without the word Exif before them, are too large or too many."""
    tags = exif.removeprefix(_EXIF)
    if tags[:4] in _TIFF:
        check_tags(io.BytesIO(tags), len(tags))


def check_tags(file: BinaryIO, length: int) -> None:
    """Raises ValueError if the tags of the TIFF `file` of `length` bytes are too large or too many.

    What is cut off or damaged in another way passes: decoders notice it.
    """
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    big = header[2:4] in (b"+\0", b"\0+")
    # Struct formats of the number of tags, of a tag (number, type, count, value or place), and of a place.
    number, tag, place = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    at = header[8:16] if big else header[4:8]
    pages, tags, taken, seen = 0, 0, 0, set[int]()
    while len(at) == struct.calcsize(place) and (start := struct.unpack(order + place, at)[0]):
        if start in seen:
            raise ValueError("damaged: the list of its pages is a circle")
        seen.add(start)
        if start >= length:
            return
        file.seek(start)
        counted = file.read(struct.calcsize(number))
        if len(counted) < struct.calcsize(number):
            return
        count = struct.unpack(order + number, counted)[0]
        pages, tags = pages + 1, tags + count
        if pages > _MOST_PAGES or tags > _MOST_TAGS:
            raise ValueError(f"it has more than {_MOST_PAGES} pages or {_MOST_TAGS} tags")
        size = struct.calcsize(order + tag)
        listed = file.read(count * size)
        for _, kind, values, _ in struct.iter_unpack(order + tag, listed[: len(listed) // size * size]):
            bytes_ = values * _TYPE_BYTES.get(kind, 0)
            taken += min(bytes_, length) if bytes_ > struct.calcsize(place) else 0
        if taken > 2 * length + _SHARED:
            raise ValueError(f"damaged: its tags take more memory than a file of {length} bytes can have")
        at = file.read(struct.calcsize(place))


def _exif_segments(file: BinaryIO) -> Iterator[bytes]:
    """The EXIF data in the segments before a JPEG's pixels (ITU T.81, B.1.1.4), which Pillow puts together."""
    file.seek(len(_JPEG))
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        length = max(0, int.from_bytes(head[2:], "big") - 2)
        if head[1] == 0xE1:
            content = file.read(length)
            if content.startswith(_EXIF):
                yield content[len(_EXIF) :]
        else:
            file.seek(length, io.SEEK_CUR)


def _check_png(head: bytes, length: int) -> None:
    """Checks the length of a PNG with the header `head`; interlaced ones have some more bytes than are counted here."""
    if head[12:16] != b"IHDR" or len(head) < 26:
        return
    width, height, bits, kind = struct.unpack(">IIBB", head[16:26])
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        return  # Pillow says so
    if width * height * bits * _PNG_CHANNELS.get(kind, 1) > _MOST_INFLATED * length:
        raise ValueError(f"truncated: it is too short for {height}x{width} pixels")


def _check_webp(head: bytes) -> None:
    """Checks the canvas, of which the decoder makes two when it opens the file (RFC 9649, section 2.7)."""
    limit = Image.MAX_IMAGE_PIXELS
    if head[12:16] != b"VP8X" or len(head) < 30 or limit is None:
        return
    width, height = (1 + int.from_bytes(head[start : start + 3], "little") for start in (24, 27))
    if width * height > 2 * limit:  # as Pillow has it
        raise Image.DecompressionBombError(f"Image size ({width * height} pixels) exceeds limit of {2 * limit} pixels")
