"""Directory of a TIFF of one page, which says what its pixels are and where (TIFF 6.0, and BigTIFF for large ones)."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .appended_file import HEAD, AppendedFile

ASCII, SHORT, LONG, DOUBLE, LONG8 = 2, 3, 4, 12, 16
#: How NumPy calls the types; a text is bytes that end with a zero.
_DTYPES = {ASCII: "u1", SHORT: "<u2", LONG: "<u4", DOUBLE: "<f8", LONG8: "<u8"}


class TiffTag(NamedTuple):
    """One entry of a directory."""

    number: int
    type: int
    """ASCII, SHORT, LONG, DOUBLE or LONG8."""
    values: Iterable[float] | np.ndarray

    def data(self) -> np.ndarray:
        """The values as they are stored."""
        values = self.values if isinstance(self.values, np.ndarray) else list(self.values)
        return np.asarray(values, _DTYPES[self.type])


def text_tag(number: int, text: str) -> TiffTag:
    """Entry of a text: ASCII, or what bytes of another encoding are in Latin-1."""
    return TiffTag(number, ASCII, text.encode("latin-1") + b"\0")


def begin_tiff(file: AppendedFile) -> None:
    """Leaves room for the header, unless it is there already."""
    if file.length == 0:
        file.append(bytes(HEAD))


def finish_tiff(file: AppendedFile, tags: Iterable[TiffTag], big: bool) -> None:
    """Writes the directory behind the pixels, and then the header, which gets its place.

    Raises:
        OSError: the file cannot be written.
    """
    if file.length % 2:  # directories begin at even places
        file.append(b"\0")
    place = file.length
    file.append(_directory(place, sorted(tags), big))
    # The pixels must be on the disk before the header says that they are there.
    file.sync()
    file.replace_head(struct.pack("<2sHHHQ", b"II", 43, 8, 0, place) if big else struct.pack("<2sHI", b"II", 42, place))


def _directory(place: int, tags: list[TiffTag], big: bool) -> bytes:
    """The directory that begins at `place`, with the values that do not fit into its entries behind it."""
    count, field, end = ("<Q", "Q", "<Q") if big else ("<H", "I", "<I")
    room = struct.calcsize("<" + field)
    beyond = place + struct.calcsize(count) + len(tags) * (4 + 2 * room) + room
    directory, values = struct.pack(count, len(tags)), bytearray()
    for tag in tags:
        numbers = tag.data()
        data = numbers.tobytes()
        directory += struct.pack("<HH" + field, tag.number, tag.type, len(numbers))
        if len(data) <= room:
            directory += data.ljust(room, b"\0")
        else:
            directory += struct.pack("<" + field, beyond + len(values))
            values += data + b"\0" * (len(data) % 2)
    return directory + struct.pack(end, 0) + values
