"""Files of images for tests of reading in windows."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

#: Windows (top, bottom, left, right) of an image of at least 70x90, from top to bottom, then back up.
WINDOWS = ((0, 30, 0, 50), (0, 30, 40, 90), (20, 50, 0, 90), (20, 50, 3, 4), (45, 70, 60, 90), (0, 70, 0, 90))


def picture(channels: int, dtype: type = np.uint8, size: tuple[int, int] = (70, 90), seed: int = 0) -> np.ndarray:
    """An image [H, W, channels] whose values use the whole range, smooth here and rough there."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    most = np.iinfo(dtype).max
    smooth = (y[..., None] * 7 + x[..., None] * 3 + np.arange(channels) * 40) * (most // 255)
    rough = rng.integers(0, most + 1, (*size, channels))
    return np.where((x // 16 % 2 == 0)[..., None], smooth % (most + 1), rough).astype(dtype)


def check_windows(image, expected: np.ndarray) -> None:
    """Reads WINDOWS of `image` and compares them with the array [H, W, C] of all pixels."""
    assert image.size == expected.shape[:2]
    assert image.channels == expected.shape[2]
    assert image.dtype == expected.dtype
    for top, bottom, left, right in WINDOWS:
        window = image.read(top, bottom, left, right)
        assert window.dtype == expected.dtype
        assert np.array_equal(window, expected[top:bottom, left:right]), (top, bottom, left, right)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(
    path: Path,
    samples: np.ndarray,
    bits: int,
    colour_type: int,
    filters: Sequence[int] = range(5),
    before: bytes = b"",
    interlace: int = 0,
    pieces: int = 100,
) -> None:
    """Writes `samples` [H, W, N] as a PNG whose rows have the `filters` in turn.

    Args:
        before: chunks between the header and the pixels.
        pieces: bytes in a chunk of pixels.
    """
    height, width, count = samples.shape
    if bits < 8:
        each = np.unpackbits(samples.astype(np.uint8)[..., None], axis=3)[..., 8 - bits :]
        rows = np.packbits(each.reshape(height, -1), axis=1)
    else:
        rows = samples.astype(">u2" if bits == 16 else np.uint8).view(np.uint8).reshape(height, -1)
    step = max(1, count * bits // 8)
    data = b"".join(
        bytes([kind]) + filtered(kind, rows[y], rows[y - 1] if y else np.zeros_like(rows[0]), step)
        for y, kind in zip(range(height), list(filters) * height)
    )
    packed = zlib.compress(data)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlace)
    chunks = [chunk(b"IDAT", packed[i : i + pieces]) for i in range(0, len(packed), pieces)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + b"".join(chunks) + chunk(b"IEND", b""))


def filtered(kind: int, row: np.ndarray, above: np.ndarray, step: int) -> bytes:
    """A row after PNG's filter `kind`, byte by byte as the standard has it (PNG 1.2, section 9)."""
    out = bytearray()
    for i, value in enumerate(row.tolist()):
        a = int(row[i - step]) if i >= step else 0
        b = int(above[i])
        c = int(above[i - step]) if i >= step else 0
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
    return bytes(out)
