"""Rows of a PNG file, one after the other, without the whole image in memory (PNG 1.2; ISO/IEC 15948)."""

import struct
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from ...data.band_files import png_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Bytes of the file that are read at a time.
_PIECE = 1 << 16
#: Bytes of rows that are decoded at a time; some copies of them exist meanwhile.
_BATCH = 1 << 20
#: Bytes of a chunk that is kept whole; a palette has 768.
_LARGEST_CHUNK = 1 << 20
#: The others are passed over.
_KEPT = (b"IHDR", b"PLTE", b"acTL")

#: Bytes that a byte of a deflate stream can become at most, and so announce (zlib, technical details).
_MOST_INFLATED = 1032

#: By colour type: channels, and the bits per channel that the standard allows.
_COLOUR_TYPES = {0: (1, (1, 2, 4, 8, 16)), 2: (3, (8, 16)), 3: (1, (1, 2, 4, 8)), 4: (2, (8, 16)), 6: (4, (8, 16))}
_PALETTE = 3

#: Pillow's mode and raw modes that undo filters of pixels of so many bytes. Of 16-bit colours it keeps one byte only,
#: so it decodes them twice, once for the high bytes and once for the low ones.
_DECODERS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("L", ("L",)),
    2: ("LA", ("LA",)),
    3: ("RGB", ("RGB",)),
    4: ("RGBA", ("RGBA",)),
    6: ("RGB", ("RGB;16B", "RGB;16L")),
    8: ("RGBA", ("RGBA;16B", "RGBA;16L")),
}


class PngHeader(NamedTuple):
    """Facts about a PNG that stand before its pixels."""

    size: tuple[int, int]
    bits: int
    colour_type: int
    palette: np.ndarray | None
    """[256, 3] uint8, black beyond the last colour; None unless pixels are indices."""
    orientation: int
    """Orientation in EXIF; 1 if the image is stored upright."""

    @property
    def samples(self) -> int:
        """Numbers per pixel as stored."""
        return _COLOUR_TYPES[self.colour_type][0]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return -(-self.size[1] * self.samples * self.bits // 8)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel, as filters count them: at least one."""
        return max(1, self.samples * self.bits // 8)


class PngStream:
    """A PNG file at its first row.

    Raises:
        OSError: the file cannot be read, is no PNG, or damaged: a checksum is wrong, or it ends early.
        ValueError: it is interlaced, or an animation.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = open(path, "rb")
        try:
            self.header, self._length = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def rows(self) -> Iterator[np.ndarray]:
        """Rows from the first to the last, some at a time: [n, W, samples], uint8, or uint16 if `bits` is 16.

        Samples of less than 8 bits are as stored, not stretched.

        Raises:
            OSError: as the constructor.
        """
        header = self.header
        height, pitch = header.size[0], header.row_bytes + 1
        count = max(1, _BATCH // pitch)
        above = np.zeros(header.row_bytes, np.uint8)
        filtered, done = bytearray(), 0
        pieces = self._inflated()
        for piece in pieces:
            filtered += piece
            while done < height and len(filtered) >= min(count, height - done) * pitch:
                batch = min(count, height - done)
                data = bytes(memoryview(filtered)[: batch * pitch])
                del filtered[: batch * pitch]
                rows = self._unfiltered(above, data, batch)
                above, done = rows[-1], done + batch
                if done == height:
                    deque(pieces, maxlen=0)  # the last checksums, before anybody relies on what they are of
                yield self._samples(rows)
        if done < height:
            raise OSError(f"{self._path}: truncated: its pixels end in row {done + len(filtered) // pitch} of {height}")

    def _read_header(self) -> tuple[PngHeader, int]:
        """Header, and the length of the first chunk of pixels, at which the file then is."""
        if self._read(len(SIGNATURE)) != SIGNATURE:
            raise OSError(f"{self._path}: not a PNG")
        size, bits, colour_type, palette = (0, 0), 0, 0, None
        while True:
            length, kind = self._chunk()
            if kind == b"IDAT":
                if size == (0, 0) or (colour_type == _PALETTE) != (palette is not None):
                    raise OSError(f"{self._path}: damaged: no {'palette' if size[0] else 'header'} before its pixels")
                header = PngHeader(size, bits, colour_type, palette, png_orientation(self._path))
                if header.size[0] * (header.row_bytes + 1) > _MOST_INFLATED * self._path.stat().st_size:
                    raise OSError(f"{self._path}: truncated: it is too short for {size[0]}x{size[1]} pixels")
                return header, length
            content = self._content(length, kind)
            if kind == b"IHDR":
                size, bits, colour_type = self._check_form(content)
            elif kind == b"acTL" and (frames := int.from_bytes(content[:4], "big")) > 1:
                raise ValueError(
                    f"{self._path}: a single picture is expected, but the file holds {frames} (an animation?)"
                )
            elif kind == b"PLTE" and colour_type == _PALETTE:
                palette = np.zeros((256, 3), np.uint8)
                palette[: length // 3] = np.frombuffer(content[: min(256, length // 3) * 3], np.uint8).reshape(-1, 3)

    def _check_form(self, content: bytes) -> tuple[tuple[int, int], int, int]:
        if len(content) != 13:
            raise OSError(f"{self._path}: damaged: its header has {len(content)} bytes instead of 13")
        width, height, bits, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", content)
        allowed = _COLOUR_TYPES.get(colour_type, (0, ()))[1]
        if not (0 < width < 2**31 and 0 < height < 2**31 and bits in allowed) or compression or filtering:
            raise OSError(f"{self._path}: damaged: its header is not one of a PNG")
        if interlace:
            raise ValueError(
                f"{self._path}: the PNG is interlaced, so it cannot be read row by row: save it without interlacing"
            )
        return (height, width), bits, colour_type

    def _inflated(self) -> Iterator[bytes]:
        """The decompressed stream of pixels."""
        stream = zlib.decompressobj()
        for data in self._pixel_data():
            while data and not stream.eof:
                try:
                    piece = stream.decompress(data, _BATCH)
                except zlib.error as error:
                    raise OSError(f"{self._path}: damaged: {error}") from error
                yield piece
                data = stream.unconsumed_tail
        if not stream.eof:
            raise OSError(f"{self._path}: truncated: its compressed pixels do not end")

    def _pixel_data(self) -> Iterator[bytes]:
        """Content of the chunks of pixels, which follow each other; each checksum is looked at when its chunk ends."""
        length = self._length
        while True:
            checksum = zlib.crc32(b"IDAT")
            while length:
                piece = self._read(min(length, _PIECE))
                checksum = zlib.crc32(piece, checksum)
                length -= len(piece)
                yield piece
            self._check(checksum, b"IDAT")
            length, kind = self._chunk()
            if kind != b"IDAT":
                return

    def _chunk(self) -> tuple[int, bytes]:
        length, kind = struct.unpack(">I4s", self._read(8))
        return length, kind

    def _content(self, length: int, kind: bytes) -> bytes:
        if length > _LARGEST_CHUNK and kind in _KEPT:
            raise OSError(f"{self._path}: damaged: a chunk {kind!r} of {length} bytes")
        checksum, kept = zlib.crc32(kind), b""
        while length:
            piece = self._read(min(length, _PIECE))
            checksum = zlib.crc32(piece, checksum)
            length -= len(piece)
            if kind in _KEPT:
                kept += piece
        self._check(checksum, kind)
        return kept

    def _check(self, checksum: int, kind: bytes) -> None:
        if struct.unpack(">I", self._read(4))[0] != checksum:
            raise OSError(f"{self._path}: damaged: the checksum of a chunk {kind.decode('latin-1')} is wrong")

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise OSError(f"{self._path}: truncated: the file ends after {self._file.tell()} bytes")
        return data

    def _unfiltered(self, above: np.ndarray, data: bytes, count: int) -> np.ndarray:
        """Rows [count, row_bytes] uint8 of filtered ones, the first of which may depend on the row `above`.

        Pillow's decoder undoes the filters. It gets the rows as an image of their own, with `above` as an unfiltered
        first row, in a stream that is not compressed.
        """
        header = self.header
        if max(data[:: header.row_bytes + 1]) > 4:
            raise OSError(f"{self._path}: damaged: a row has a filter that PNG does not know")
        mode, raw_modes = _DECODERS[header.pixel_bytes]
        stream = zlib.compress(b"\0" + above.tobytes() + data, 0)
        pixels = header.row_bytes // header.pixel_bytes
        parts = [
            np.asarray(Image.frombytes(mode, (pixels, count + 1), stream, "zip", raw_mode, 0))[1:]
            for raw_mode in raw_modes
        ]
        return np.stack(parts, axis=-1).reshape(count, header.row_bytes)

    def _samples(self, rows: np.ndarray) -> np.ndarray:
        header = self.header
        if header.bits == 16:
            values = rows.view(">u2").astype(np.uint16)
        elif header.bits == 8:
            values = rows
        else:
            bits = np.unpackbits(rows, axis=1).reshape(len(rows), -1, header.bits)
            places = (1 << np.arange(header.bits)[::-1]).astype(np.uint8)
            values = (bits * places).sum(axis=2, dtype=np.uint8)[:, : header.size[1]]
        return values.reshape(len(rows), header.size[1], header.samples)
