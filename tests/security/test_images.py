"""Images that announce more than they hold are refused by name before memory is taken for them."""

import io
import json
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladderseg_fast.data import read_image
from ladderseg_fast.data.file_structure import check_structure
from ladderseg_fast.data.image_header import read_header
from ladderseg_fast.engine.tiled import open_windows


def refused(path: Path, content: bytes, message: str, read: Callable[[Path], object] = read_image) -> None:
    """Asserts that `read` refuses the file by name, and takes less than 64 MiB on the way."""
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match=message) as caught:
            read(path)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert taken < 64 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def encoded(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", pixels or zlib.compress(bytes((3 * width + 1) * height)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def tags_of_the_same_bytes(count: int, size: int, order: str = "<") -> bytes:
    """A TIFF, or EXIF data, of `count` tags whose values are the same `size` bytes each."""
    start = 8 + 2 + 12 * count + 4
    entries = b"".join(struct.pack(f"{order}HHII", 1000 + i, 7, size, start) for i in range(count))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, count)
    return head + entries + struct.pack(f"{order}I", 0) + bytes(size)


# --- sizes in pixels ---


def test_png_of_giant_size(tmp_path):
    refused(tmp_path / "a.png", png(10**6, 10**6, pixels=b"x"), "cannot read the image")
    # Within Pillow's limit, but of a few bytes.
    refused(tmp_path / "b.png", png(10_000, 10_000, pixels=b"x"), "truncated: it is too short for 10000x10000 pixels")


def test_png_with_a_chunk_of_giant_length(tmp_path):
    content = bytearray(png(8, 8))
    content[33:37] = (2**31 - 1).to_bytes(4, "big")  # the length of the chunk of pixels
    refused(tmp_path / "a.png", bytes(content), "a chunk has 2147483647 bytes")


def test_gif_of_giant_size(tmp_path):
    content = bytearray(encoded("GIF"))
    content[6:10] = b"\xff\xff\xff\xff"
    refused(tmp_path / "a.gif", bytes(content), "exceeds limit")


def test_bmp_and_ppm_of_giant_size(tmp_path):
    content = bytearray(encoded("BMP"))
    content[18:26] = struct.pack("<ii", 100_000, 100_000)
    refused(tmp_path / "a.bmp", bytes(content), "exceeds limit")
    refused(tmp_path / "a.ppm", b"P6\n100000 100000\n255\n" + bytes(30), "exceeds limit")


def test_webp_of_giant_canvas(tmp_path):
    flags = b"\x02\0\0\0" + (2**24 - 1).to_bytes(3, "little") + (200).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + flags
    refused(tmp_path / "a.webp", b"RIFF" + struct.pack("<I", len(body)) + body, "exceeds limit")


def test_tiff_of_giant_size(tmp_path):
    content = bytearray(encoded("TIFF"))
    start = struct.unpack_from("<I", content, 4)[0]
    for i in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * i
        if struct.unpack_from("<H", content, place)[0] in (256, 257):
            struct.pack_into("<HII", content, place + 2, 4, 1, 2**30)
    refused(tmp_path / "a.tif", bytes(content), "exceeds limit")


# --- what is compressed besides pixels ---


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_png_with_a_bomb_in_a_chunk(tmp_path, name):
    bomb = zlib.compress(bytes(80 << 20))
    before = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"profile\0\0"}[name]
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, png_chunk(name, before + bomb)))
    tracemalloc.start()
    try:
        read_image(path)
    except OSError as error:
        assert str(error).startswith(str(path))
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert taken < 64 << 20


# --- tags ---


def test_tiff_whose_tags_share_their_bytes(tmp_path):
    content = tags_of_the_same_bytes(20_000, 100_000)  # 2 GB of tags in a file of 0.3 MB
    refused(tmp_path / "a.tif", content, "its tags take more memory than a file of 340014 bytes can have")
    refused(tmp_path / "a.tif", content, "its tags take more memory", read=read_header)
    refused(tmp_path / "a.tif", content, "its tags take more memory", read=open_windows)


@pytest.mark.parametrize("where", ["png", "behind the pixels", "webp", "jpeg"])
def test_exif_whose_tags_share_their_bytes(tmp_path, where):
    exif = tags_of_the_same_bytes(20_000, 100_000, ">")
    if where == "jpeg":  # in segments, which Pillow puts together
        pieces = [exif[i : i + 65_000] for i in range(0, len(exif), 65_000)]
        segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(piece) + 8) + b"Exif\0\0" + piece for piece in pieces)
        content = encoded("JPEG")
        content = content[:2] + segments + content[2:]
    elif where == "webp":
        content = encoded("WEBP", exif=exif)
    else:
        content = png(8, 8, png_chunk(b"eXIf", exif))
        if where == "behind the pixels":
            content = png(8, 8)[:-12] + png_chunk(b"eXIf", exif) + png_chunk(b"IEND", b"")
    refused(tmp_path / f"a.{where[:4]}", content, "its tags take more memory")


def test_tiff_of_pages_in_a_circle(tmp_path):
    content = bytearray(encoded("TIFF"))
    start = struct.unpack_from("<I", content, 4)[0]
    end = start + 2 + 12 * struct.unpack_from("<H", content, start)[0]
    struct.pack_into("<I", content, end, start)
    refused(tmp_path / "a.tif", bytes(content), "the list of its pages is a circle")
    refused(tmp_path / "a.tif", bytes(content), "the list of its pages is a circle", read=open_windows)


def test_tiff_of_very_many_pages(tmp_path):
    pages = b"".join(struct.pack("<HI", 0, 8 + 6 * (i + 1)) for i in range(20_000)) + struct.pack("<HI", 0, 0)
    refused(tmp_path / "a.tif", b"II*\0" + struct.pack("<I", 8) + pages, "more than 10000 pages")


def test_big_tiff_of_very_many_tags(tmp_path):
    content = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60)
    refused(tmp_path / "a.tif", content, "more than 10000 pages or 200000 tags")


def test_ordinary_files_pass(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010E] = "about " * 1000
    for format in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"):
        path = tmp_path / f"a.{format}"
        path.write_bytes(encoded(format, **({"exif": exif} if format in ("PNG", "JPEG", "WEBP", "TIFF") else {})))
        check_structure(path)
        assert read_image(path).shape == (8, 8, 3)


# --- formats that are programs ---


@pytest.mark.parametrize(
    "start", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xc5\xd0\xd3\xc6" + bytes(40)]
)
def test_postscript_is_not_run(tmp_path, start, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("Ghostscript was run"))
    refused(tmp_path / "a.jpg", start + b"showpage\n", "PostScript is not read")


# --- arrays ---


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000000000, 3)}\n",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (4, 4)}\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (__import__('os').getpid(), 4)}\n",
        b"__import__('os').getpid()\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"(" * 200 + b"\n",
        b"{'descr': [('a', '|u1', (10000, 10000, 10000))], 'fortran_order': False, 'shape': (2, 2)}\n",
    ],
)
def test_npy_with_a_bad_header(tmp_path, header):
    refused(tmp_path / "a.npy", npy(header) + bytes(100), "cannot read the array", read=open_windows)


def test_npy_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "b.npy", np.array([[{}]], object))
    refused(tmp_path / "a.npy", (tmp_path / "b.npy").read_bytes(), "cannot read the array", read=open_windows)


def test_zarr_of_giant_chunks(tmp_path):
    zarr = pytest.importorskip("zarr", reason="an optional dependency")
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(64, 64), chunks=(64, 64), dtype="uint8")
    array[:] = 1
    facts = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    facts["shape"] = facts["chunk_grid"]["configuration"]["chunk_shape"] = [10**9, 10**9]
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"a\.zarr: its chunks of 1000000000x1000000000 values are too large"):
        open_windows(tmp_path / "a.zarr")
