"""LZW data that would make imagecodecs read memory that nobody has written."""

import random
from pathlib import Path

import numpy as np
import pytest

from ladderseg_fast.data.band_files import read_tiff_bands
from ladderseg_fast.data.big_endian_tiff import as_ordinary_tiff
from ladderseg_fast.data.image_form import ImageForm
from ladderseg_fast.data.lzw import _begins_with_bytes
from ladderseg_fast.engine.tiled.open_windows import open_windows

tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

CLEAR, END = 256, 257


def width_at(entries: int, least_first: bool) -> int:
    """Bits of the next code, while a table has so many entries."""
    return 9 + sum(entries + (not least_first) >= limit for limit in (512, 1024, 2048))


def written(codes: list[int], least_first: bool = False) -> bytes:
    """Data of these codes."""
    bits, entries, first = "", 258, True
    for code in codes:
        width = width_at(entries, least_first)
        text = f"{code:0{width}b}"
        bits += text[::-1] if least_first else text
        if code == CLEAR:
            entries, first = 258, True
        else:
            entries, first = entries + (not first), False
    bits += "0" * (-len(bits) % 8)
    groups = [bits[i : i + 8] for i in range(0, len(bits), 8)]
    return bytes(int(group[::-1] if least_first else group, 2) for group in groups)


def walks_safely(data: bytes, least_first: bool) -> bool:
    """What _begins_with_bytes says, code by code."""
    values = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little" if least_first else "big").tolist()
    at, entries, first, width = 0, 258, True, 9
    while at + width <= len(values):
        bits = values[at : at + width]
        if at + 24 > len(values):  # the decoder's last bytes
            known = at // 8 * 8 + 16
            bits = [bit if at + i < known else 0 for i, bit in enumerate(bits)]
        code = int("".join(map(str, reversed(bits) if least_first else bits)), 2)
        at += width
        if code == END or entries > 5119:
            return True
        if code == CLEAR:
            entries, first = 258, True
        elif first and code > END:
            return False
        else:
            entries, first = entries + (not first), False
        width = width_at(entries, least_first)
    return True


@pytest.mark.parametrize("count", [1, 2, 250, 5000, 200_000])
@pytest.mark.parametrize("values", [1, 3, 256])
def test_what_is_written_is_taken(count: int, values: int) -> None:
    content = np.random.default_rng(count).integers(0, values, count, np.uint8).tobytes()
    data = imagecodecs.lzw_encode(content)
    assert imagecodecs.lzw_decode(data) == content
    assert _begins_with_bytes(data) and walks_safely(data, least_first=False)


@pytest.mark.parametrize("least_first", [False, True])
def test_first_codes(least_first: bool) -> None:
    for safe in ([CLEAR, 65, 258, END], [CLEAR, CLEAR, 65], [CLEAR], [CLEAR, *range(200), CLEAR, 7, CLEAR, END, 300]):
        assert _begins_with_bytes(written(safe, least_first)), safe
    for damaged in ([CLEAR, 300], [CLEAR, 65, CLEAR, 258, 65], [CLEAR, *[1] * 900, CLEAR, CLEAR, 511, 65]):
        assert not _begins_with_bytes(written(damaged, least_first)), damaged


@pytest.mark.parametrize("least_first", [False, True])
def test_equals_a_walk_code_by_code(least_first: bool) -> None:
    generator, seen = random.Random(0), []
    for _ in range(400):
        codes = [CLEAR]
        for _ in range(generator.choice((3, 30, 300, 3000))):
            code = generator.choice((CLEAR, CLEAR, CLEAR, CLEAR, END, generator.randrange(258, 512)))
            codes.append(generator.randrange(256) if generator.random() < 0.8 else code)
        data = written(codes, least_first)[: generator.choice((None, -1, -2))]
        seen.append(_begins_with_bytes(data))
        assert seen[-1] == walks_safely(data, least_first)
    assert 40 < sum(seen) < 360


def test_full_tables() -> None:
    assert _begins_with_bytes(written([CLEAR, *[1] * 3836, CLEAR, 5]))
    assert not _begins_with_bytes(written([CLEAR, *[1] * 3836, CLEAR, 300]))
    assert not _begins_with_bytes(written([CLEAR, *[1] * 4800, CLEAR, 300], least_first=True))


@pytest.mark.parametrize("options", [{}, {"byteorder": ">", "bigtiff": True}], ids=["ordinary", "big-endian BigTIFF"])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_tiffs(tmp_path: Path, options: dict[str, object], fill_order: int) -> None:
    path, pixels = tmp_path / "a.tif", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 251
    # tifffile writes no order of bits: it writes another tag, which becomes that one.
    tifffile.imwrite(
        path, pixels, compression="lzw", rowsperstrip=64, extratags=[(269, 3, 1, fill_order, True)], **options
    )
    with tifffile.TiffFile(path) as file:
        at, byteorder = file.pages[0].tags[269].offset, {"<": "little", ">": "big"}[file.byteorder]
    content = bytearray(path.read_bytes())
    content[at : at + 2] = (266).to_bytes(2, byteorder)
    path.write_bytes(content)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        (offset,), (count,) = page.dataoffsets, page.databytecounts
        assert (page.fillorder, page.compression) == (fill_order, 5)
    valid = bytes(content[offset : offset + count])
    damaged = written([CLEAR, 300]) + valid[3:]
    for data in (valid, damaged):
        content[offset : offset + count] = data if fill_order == 1 else imagecodecs.bitorder_encode(data)
        path.write_bytes(content)
        for read in (read_tiff_bands, as_ordinary_tiff, read_window):
            if data is valid:
                assert read is as_ordinary_tiff or np.array_equal(read(path)[..., 0], pixels)
            else:
                with pytest.raises(OSError, match=r"a\.tif: .*damaged LZW data"):
                    read(path)


def read_window(path: Path) -> np.ndarray:
    with open_windows(path, ImageForm(1, 16)) as image:
        return image.read(0, 64, 0, 64)
