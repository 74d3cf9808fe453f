"""Images of more than 8 bits or three bands: an error that says what the file has, never values cut off in silence."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features

from ladderseg_fast.data import read_annotation, read_image
from ladderseg_fast.data.image_files import check_image_header, read_header
from ladderseg_fast.data.pixel_form import pixel_form, unknown_form

pytestmark = pytest.mark.real_use

SIZE = (8, 10)


def values(bands: int | None, most: int = 256, dtype: str = "uint8") -> np.ndarray:
    shape = SIZE if bands is None else (*SIZE, bands)
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def save_png(path: Path, pixels: np.ndarray, colour_type: int, *chunks: bytes) -> Path:
    """What Pillow does not write: 16 bits of colours or with alpha, and any tRNS."""
    depth = 8 * pixels.itemsize
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def refused(path: Path, message: str, headers_tell: bool = True) -> None:
    expected = f"{re.escape(str(path))}: the image has {message}"
    with pytest.raises(ValueError, match=expected):
        read_image(path)
    if headers_tell:
        with pytest.raises(ValueError, match=expected):
            check_image_header(path, read_header(path))
    else:
        check_image_header(path, read_header(path))


@pytest.mark.parametrize(
    ("colour_type", "bands", "words"),
    [(2, 3, "RGB"), (6, 4, "RGB with alpha"), (4, 2, "grey with alpha"), (0, None, "grey")],
)
def test_png_of_16_bits(tmp_path, colour_type, bands, words):
    """Such as a camera's 12 bits, which come out as 0 to 15 where Pillow makes 8 bits of them."""
    path = save_png(tmp_path / "a.png", values(bands, 4096, "uint16"), colour_type)
    refused(path, f"16 bits per channel, {words}; 8-bit grey and RGB images are read: .* scaled to 0..255")
    with pytest.raises(ValueError, match=f"but this has 16 bits per channel, {words}: its values would be lost"):
        read_annotation(path, coloured=True)


@pytest.mark.parametrize(
    ("bands", "dtype", "photometric", "words"),
    [
        (3, "uint16", "rgb", "16 bits per channel, RGB; .* scaled to 0..255"),
        (None, "uint16", "minisblack", r"16 bits per channel, grey \(minisblack\);"),
        (None, "int8", "minisblack", r"8 signed bits per channel, grey \(minisblack\);"),
        (None, "int16", "minisblack", "16 signed bits per channel, grey"),
        (None, "float32", "minisblack", "32 floating-point bits per channel, grey"),
        (None, "float64", "minisblack", "64 floating-point bits per channel, grey .*, which Pillow does not read"),
        (3, "float32", "rgb", "32 floating-point bits per channel, RGB, which Pillow does not read"),
        (3, "uint32", "rgb", "32 bits per channel, RGB, which Pillow does not read"),
        (3, "uint8", "minisblack", r"8 bits per channel, grey \(minisblack\) and 2 more bands .*save the three bands"),
        (4, "uint8", "minisblack", r"8 bits per channel, grey \(minisblack\) and 3 more bands not marked as transp"),
        (5, "uint8", "rgb", "8 bits per channel, RGB and 2 more bands not marked as transparency; .*save the three"),
    ],
)
def test_tiff_of_other_forms(tmp_path, bands, dtype, photometric, words):
    path = tmp_path / "a.tif"
    planes = {} if bands is None else {"planarconfig": "contig"}
    tifffile.imwrite(path, values(bands, 100, dtype), photometric=photometric, **planes)
    for look in (read_image, lambda path: check_image_header(path, read_header(path))):
        with pytest.raises(ValueError, match=re.escape(str(path)) + ": the image has " + words):
            look(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_fourth_band_of_a_tiff_is_not_lost(tmp_path, dtype):
    path = tmp_path / "near_infrared.tif"
    tifffile.imwrite(path, values(4, 256, dtype), photometric="rgb", extrasamples=["unspecified"])
    bits = np.dtype(dtype).itemsize * 8
    refused(path, f"{bits} bits per channel, RGB and 1 more band not marked as transparency; .*save the three bands")


@pytest.mark.parametrize("mark", ["unassalpha", "assocalpha"])
def test_fourth_band_that_is_marked_as_alpha(tmp_path, mark):
    """As programs for maps mark any fourth band: only one of 0 and 255 is surely transparency."""
    path = tmp_path / "a.tif"
    pixels = values(4)
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[mark])
    count = np.count_nonzero((pixels[..., 3] > 0) & (pixels[..., 3] < 255))
    message = f"8 bits per channel, RGB with alpha, but the band called alpha .* between 0 and 255 in {count} pixels"
    refused(path, message, headers_tell=False)
    pixels[..., 3] = 255 * (pixels[..., 3] > 99)
    pixels[pixels[..., 3] == 0] = 0
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[mark])
    assert np.array_equal(read_image(path), pixels[..., :3])


@pytest.mark.parametrize(
    ("bands", "options"),
    [
        (3, {"photometric": "rgb"}),
        (3, {"photometric": "rgb", "planarconfig": "separate"}),
        (3, {"photometric": "rgb", "compression": "zlib"}),
        (3, {"photometric": "rgb", "bigtiff": True}),
        (3, {"photometric": "rgb", "byteorder": ">"}),
        (None, {"photometric": "minisblack"}),
        (None, {"photometric": "miniswhite"}),
    ],
)
def test_tiff_of_8_bits_is_read(tmp_path, bands, options):
    path = tmp_path / "a.tif"
    pixels = values(bands)
    separate = options.get("planarconfig") == "separate"
    tifffile.imwrite(path, np.moveaxis(pixels, 2, 0) if separate else pixels, **options)
    if bands is None:
        pixels = np.repeat(pixels[..., None], 3, 2)
    if options["photometric"] == "miniswhite":
        pixels = 255 - pixels
    assert np.array_equal(read_image(path), pixels)


def test_pages_of_a_tiff(tmp_path):
    """Several pictures are an error; smaller copies of one, as maps come with, are not."""
    path = tmp_path / "a.tif"
    pixels = values(3)
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, photometric="rgb")
        file.write(pixels[::2, ::2], photometric="rgb", subfiletype=1)
    assert np.array_equal(read_image(path), pixels)
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, photometric="rgb")
        file.write(pixels, photometric="rgb")
    with pytest.raises(ValueError, match="a single picture is expected, but the file holds 2"):
        read_image(path)


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_header_of_a_turned_tiff_has_the_size_of_its_pixels(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / "a.tif"
    Image.fromarray(values(3)).save(path, exif=exif)
    header = read_header(path)
    assert header.size == read_image(path).shape[:2]
    assert header.stored_size == SIZE


def test_damaged_tiff_is_not_blamed_on_its_form(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(3), photometric="rgb", compression="zlib")
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<HHIHH", 259, 3, 1, 8, 0), struct.pack("<HHIHH", 259, 3, 1, 999, 0)))
    with pytest.raises(OSError, match=r"a\.tif: (damaged|cannot read the image)"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.pgm", "a.ppm"])
def test_netpbm_of_16_bits(tmp_path, name):
    path = tmp_path / name
    bands = None if name == "a.pgm" else 3
    kind = "P5" if bands is None else "P6"
    header = f"{kind}\n# of a camera\n{SIZE[1]} {SIZE[0]}\n4095\n".encode()
    path.write_bytes(header + values(bands, 4096, ">u2").tobytes())
    refused(path, f"16 bits per channel, {'grey' if bands is None else 'RGB'};")
    path.write_bytes(header.replace(b"4095", b"255") + values(bands).tobytes())
    assert np.array_equal(read_image(path)[..., 0], values(bands).reshape(*SIZE, -1)[..., 0])


def test_jpeg_of_12_bits(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(values(3)).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"\xff\xc0") + 4] = 12
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg: the image has 12 bits per channel, RGB, which Pillow does not read"):
        read_image(path)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow without JPEG 2000")
def test_jpeg_2000(tmp_path):
    path = tmp_path / "a.jp2"
    Image.fromarray(values(3)).save(path, irreversible=False)
    assert np.array_equal(read_image(path), values(3))
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\x4f\xff\x51") + 42
    content[place : place + 9 : 3] = bytes([15] * 3)
    path.write_bytes(content)
    refused(path, "16 bits per channel, RGB;")


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_of_10_bits(tmp_path):
    path = tmp_path / "a.avif"
    Image.fromarray(values(3)).save(path)
    assert read_image(path).shape == (*SIZE, 3)
    content = bytearray(path.read_bytes())
    content[content.index(b"av1C") + 6] |= 0x40
    flagged = tmp_path / "flagged.avif"
    flagged.write_bytes(content)
    # The decoder compares the flags with the pixels, and Pillow writes 8 bits only.
    with Image.open(path) as image:
        assert (pixel_form(path, image).bits, pixel_form(flagged, image).bits) == (8, 10)


def test_sgi_of_16_bits(tmp_path):
    path = tmp_path / "a.sgi"
    Image.fromarray(values(None)).save(path, bpc=2)
    refused(path, "16 bits per channel, grey;")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_of_8_bits_is_read(tmp_path, mode):
    picture = Image.fromarray(values(3)).convert(mode)
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("colour_type", "chunks"),
    [
        (0, [chunk(b"tRNS", b"\0\x05")]),
        (3, [chunk(b"PLTE", bytes(range(30))), chunk(b"tRNS", b"\0")]),
        (3, [chunk(b"PLTE", bytes(range(30))), chunk(b"tRNS", b"\xff\x80")]),
    ],
)
def test_labels_with_a_transparent_value(tmp_path, colour_type, chunks):
    path = save_png(tmp_path / "a.png", values(None, 10), colour_type, *chunks)
    with pytest.raises(ValueError, match=r"a\.png: a label image may not have transparency.*save it without"):
        read_annotation(path)


def test_labels_with_a_palette_that_is_opaque(tmp_path):
    chunks = chunk(b"PLTE", bytes(range(30))), chunk(b"tRNS", b"\xff\xff\xff")
    path = save_png(tmp_path / "a.png", values(None, 10), 3, *chunks)
    assert np.array_equal(read_annotation(path), values(None, 10))


def test_labels_with_alpha(tmp_path):
    """Fully opaque, which loses nothing, or an error."""
    path = tmp_path / "a.png"
    pixels = values(2, 10)
    pixels[..., 1] = 255
    Image.fromarray(pixels, "LA").save(path)
    assert np.array_equal(read_annotation(path), pixels[..., 0])
    pixels[0, 0, 1] = 254
    Image.fromarray(pixels, "LA").save(path)
    with pytest.raises(ValueError, match="may not have transparency"):
        read_annotation(path)


@pytest.mark.parametrize("ending", ["jp2", "avif"])
def test_pillows_word_where_the_head_does_not_say(tmp_path, ending):
    """The boxes before the codestream's header can be of any length."""
    name = {"jp2": "jpg_2000", "avif": "avif"}[ending]
    if not features.check(name):
        pytest.skip(f"Pillow without {name}")
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", SIZE[::-1]).save(path)
    with Image.open(path) as image:
        path.write_bytes(path.read_bytes()[:12] + bytes(1 << 20))
        assert pixel_form(path, image)[:3] == ("RGB", 8, "")


def test_a_jpeg_without_a_frame(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x04ab\xff\xfe\0\x04cd\xff\xd9")
    assert unknown_form(tmp_path / "a.jpg") is None
