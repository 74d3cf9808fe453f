"""A check of the LZW data in TIFFs, for what imagecodecs takes on trust.

Its decoder checks each code but the first after a Clear: one that is no byte makes it read memory that nobody has
written, which may end the process. Reference: TIFF revision 6.0 (1992), section 13.
"""

from functools import lru_cache
from typing import Any

import numpy as np

_LZW = 5
_CLEAR, _END = 256, 257
#: Codes after a Clear that are looked at one by one, in steps of numpy, and at most: then the decoder's table is full.
_ALONE, _FEW, _MOST = 8, 64, 4864


def check_lzw(page: Any, data: bytes) -> None:
    """Checks the bytes of one strip or tile before they are decoded, if `page` is compressed with LZW.

    Args:
        page: a tifffile.TiffPage.

    Raises:
        ValueError: a code that must be a byte is none.
    """
    if page.compression != _LZW or len(data) < 2:
        return
    if page.fillorder == 2:
        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)), bitorder="little").tobytes()
    if not _begins_with_bytes(data):
        raise ValueError("damaged LZW data")


def check_all_lzw(page: Any) -> None:
    """Checks all strips or tiles of `page`, see check_lzw."""
    if page.compression == _LZW:
        file = page.parent.filehandle
        for offset, count in zip(page.dataoffsets, page.databytecounts):
            file.seek(offset)
            check_lzw(page, file.read(min(count, file.size)))


def _begins_with_bytes(data: bytes) -> bool:
    """Whether the first code after each Clear is a byte, up to the end of the data or where no decoder goes on."""
    if data[0] == 0 and data[1] & 1:
        codes = _Codes(data, least_first=True)
    elif data[0] == 128 and data[1] < 128:
        codes = _Codes(data, least_first=False)
    else:  # it does not begin with a Clear: no decoder takes it
        return True
    start = 0
    while True:
        first = codes.one(start, 0)
        if first == _CLEAR:
            start += codes.widths[0]
        elif first > _END:
            return False
        elif first == _END or (following := codes.after_next_clear(start)) is None:
            return True
        else:
            start = int(following)


class _Codes:
    """Codes of the LZW data; a code is known by the bit at which the first one after a Clear begins, and its number."""

    def __init__(self, data: bytes, *, least_first: bool) -> None:
        self._bits = 8 * len(data)
        self._data, self._bytes = data, np.frombuffer(data + b"\0\0", np.uint8)
        self._least_first = least_first
        self.widths, self._starts = _layout(least_first)

    def one(self, start: int, number: int) -> int:
        """Returns a code; behind the data there is the end."""
        width, bit = int(self.widths[number]), start + int(self._starts[number])
        if bit + width > self._bits:
            return _END
        at = bit >> 3
        # Of the last three bytes the decoder takes two.
        three = self._data[at : at + (3 if bit + 24 <= self._bits else 2)].ljust(3, b"\0")
        value = int.from_bytes(three, "little" if self._least_first else "big")
        shift = bit % 8 if self._least_first else 24 - bit % 8 - width
        return (value >> shift) & ((1 << width) - 1)

    def after_next_clear(self, start: int) -> int | None:
        """Finds the bit behind the next Clear of a run that begins with a byte at `start`.

        Returns:
            None if the end comes before.
        """
        for number in range(1, _ALONE):
            code = self.one(start, number)
            if code == _END:
                return None
            if code == _CLEAR:
                return start + int(self._starts[number] + self.widths[number])
        for first, last in ((_ALONE, _FEW), (_FEW, _MOST)):
            codes = self._several(start, first, last)
            found = np.flatnonzero((codes == _CLEAR) | (codes == _END))
            if found.size:
                number = first + int(found[0])
                is_end = codes[found[0]] == _END
                return None if is_end else start + int(self._starts[number] + self.widths[number])
        return None

    def _several(self, start: int, first: int, last: int) -> np.ndarray:
        widths, bits = self.widths[first:last], start + self._starts[first:last]
        inside = bits + widths <= self._bits
        at = np.where(inside, bits >> 3, 0)
        low, middle, high = (self._bytes[at + i].astype(np.int64) for i in range(3))
        high *= bits + 24 <= self._bits
        if self._least_first:
            codes = (low | middle << 8 | high << 16) >> bits % 8
        else:
            codes = (low << 16 | middle << 8 | high) >> 24 - bits % 8 - widths
        return np.where(inside, codes & (1 << widths) - 1, _END)


@lru_cache(maxsize=2)
def _layout(least_first: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lays out the codes after a Clear: their widths, and the bits at which they begin, counted from the first.

    The first code makes no entry of the table, and each further one makes one. Codes grow by a bit when the table needs
    it; with the most significant bit first, one entry before.
    """
    entries = 258 + np.maximum(np.arange(_MOST) - 1, 0)
    early = 0 if least_first else 1
    widths = np.full(_MOST, 9)
    for limit in (512, 1024, 2048):
        widths += entries >= limit - early
    return widths, np.concatenate([[0], np.cumsum(widths)[:-1]])
