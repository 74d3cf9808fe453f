"""Images of other bands than RGB of 8 bits: as they are in the file, all of one form, or refused by name."""

import importlib
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.data_trees import make_bands, make_folder, save_image, save_tiff

from ladderseg_fast.data import (
    RGB,
    FilePairs,
    ImageFolder,
    ImageForm,
    StreetScenes,
    check_pairs,
    find_form,
    read_image,
)
from ladderseg_fast.data.image_header import read_header
from ladderseg_fast.models.weights import MissingPackageError

SIZE = (8, 10)
#: PNG's colour types by the number of channels.
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def values(bands: int, dtype: str, most: int | None = None) -> np.ndarray:
    most = np.iinfo(dtype).max if most is None else most
    return np.random.default_rng(bands).integers(0, most, (*SIZE, bands), dtype=dtype, endpoint=True)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def save_png(path: Path, pixels: np.ndarray, before: bytes = b"", behind: bytes = b"") -> Path:
    """A PNG with the chunks `before` the pixels and `behind` them; its rows have all filters in turn."""
    depth, pixel = 8 * pixels.itemsize, pixels.itemsize * pixels.shape[2]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, COLOUR_TYPES[pixels.shape[2]], 0, 0, 0)
    raw = pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(len(pixels), -1).astype(int)
    rows = []
    for k, row in enumerate(raw):
        left = np.concatenate([np.zeros(pixel, int), row[:-pixel]])
        above = raw[k - 1] if k else np.zeros_like(row)
        filtered = (row, row - left, row - above)[k % 3]
        rows.append(bytes([k % 3]) + (filtered % 256).astype(np.uint8).tobytes())
    chunks = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(b"".join(rows))) + behind
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b""))
    return path


def refused(path: Path, form: ImageForm, message: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=re.escape(f"{path}: ") + message):
        read_image(path, form)


@pytest.mark.parametrize(
    ("bands", "dtype"), [(1, "uint8"), (2, "uint8"), (4, "uint8")] + [(n, "uint16") for n in COLOUR_TYPES]
)
def test_png(tmp_path, bands, dtype):
    """Transparency is a band like the others; Pillow would make 8 bits of 16."""
    pixels = values(bands, dtype)
    path = save_png(tmp_path / "a.png", pixels)
    read = read_image(path, ImageForm(bands, 8 * pixels.itemsize))
    assert read.dtype == dtype
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("bands", [1, 2, 3, 5, 32])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}, {"tile": (16, 16), "compression": "lzw"}])
def test_tiff(tmp_path, bands, dtype, options):
    if (bands, dtype) == (3, "uint8"):
        return  # this is RGB
    pixels = values(bands, dtype)
    path = tmp_path / "a.tif"
    if bands > 1 and "planarconfig" in options:
        tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), photometric="minisblack", **options)
    else:
        save_tiff(path, pixels, **({} if "planarconfig" in options else options))
    form = ImageForm(bands, 8 * pixels.itemsize)
    assert np.array_equal(read_image(path, form), pixels)
    assert read_header(path).form[1::3] == (form.bits, bands)


@pytest.mark.parametrize("mark", ["unspecified", "unassalpha", "assocalpha"])
def test_fourth_band_of_a_tiff_whatever_its_mark(tmp_path, mark):
    pixels = values(4, "uint8")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[mark])
    assert np.array_equal(read_image(tmp_path / "a.tif", ImageForm(4, 8)), pixels)


def test_twelve_bits(tmp_path):
    """Packed: three bytes hold two values."""
    pixels = values(1, "uint16", 4095)
    packed = np.unpackbits(pixels.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    data = np.packbits(packed.reshape(SIZE[0], -1), axis=1).tobytes()
    tags = {256: SIZE[1], 257: SIZE[0], 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: SIZE[0], 279: len(data)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    path = tmp_path / "a.tif"
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    read = read_image(path, ImageForm(1, 12))
    assert read.dtype == np.uint16
    assert np.array_equal(read, pixels)
    refused(path, ImageForm(1, 16), r"1 band of 16 bits are expected, but the image has 1 channel of 12 bits")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(tmp_path, orientation):
    """As Pillow turns an image of 8 bits, in TIFF and in PNG with EXIF data behind its pixels."""
    pixels = values(3, "uint8")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "rgb.png", exif=exif)
    expected = read_image(tmp_path / "rgb.png")
    wide = pixels.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", wide, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    save_png(tmp_path / "a.png", wide, behind=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    for name in ("a.tif", "a.png"):
        assert np.array_equal(read_image(tmp_path / name, ImageForm(3, 16)), expected.astype(int) * 257)
    five = tmp_path / "five.tif"  # which Pillow does not open
    tifffile.imwrite(
        five,
        np.repeat(wide[..., :1], 5, 2),
        photometric="minisblack",
        planarconfig="contig",
        extratags=[(274, 3, 1, orientation, True)],
    )
    assert np.array_equal(read_image(five, ImageForm(5, 16))[..., 4], expected[..., 0].astype(int) * 257)
    for path in (tmp_path / "a.tif", five):
        assert read_header(path).size == expected.shape[:2]


def test_refused(tmp_path):
    """Another number of channels, other bits, other kinds of numbers: named with what was found and expected."""
    four = tmp_path / "four.tif"
    save_tiff(four, values(4, "uint16"))
    refused(four, ImageForm(5, 16), r"5 bands of 16 bits are expected, but the image has 4 channels of 16 bits \(grey")
    refused(four, ImageForm(4, 8), "4 bands of 8 bits are expected, but the image has 4 channels of 16 bits")
    refused(four, RGB, "the image has 16 bits per channel, grey .* and 3 more bands .*data.bands and data.bits")
    for dtype, kind in (("int16", "16 signed bits"), ("float32", "32 floating-point bits"), ("uint32", "32 bits")):
        save_tiff(tmp_path / "kind.tif", values(4, "uint8").astype(dtype))
        refused(tmp_path / "kind.tif", ImageForm(4, 16), f"4 bands of 16 bits .* has 4 channels of {kind}")
    save_image(tmp_path / "a.jpg", SIZE)
    refused(tmp_path / "a.jpg", ImageForm(1, 8), r"1 band of 8 bits are expected, but .* 3 channels of 8 bits \(RGB\)")
    Image.new("CMYK", SIZE[::-1]).save(tmp_path / "cmyk.tif")
    refused(tmp_path / "cmyk.tif", ImageForm(4, 8), r".*4 channels of 8 bits \(CMYK\)")
    palette = Image.new("P", SIZE[::-1])
    palette.putpalette(bytes(range(256)) * 3)
    palette.save(tmp_path / "p.png")
    refused(tmp_path / "p.png", ImageForm(1, 8), r".*1 channel of 8 bits \(palette\)")
    (tmp_path / "a.ppm").write_bytes(b"P6 10 8 65535\n" + values(3, "uint16").tobytes())
    refused(tmp_path / "a.ppm", ImageForm(3, 16), "3 bands of 16 bits are read from TIFF and PNG, but this is PPM")


def test_one_band_of_8_bits_from_any_format(tmp_path):
    for name in ("a.bmp", "a.jpg", "a.pgm"):
        Image.new("L", SIZE[::-1], 77).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name, ImageForm(1, 8)), np.full((*SIZE, 1), 77))


def test_pages_are_no_bands(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(values(4, "uint16"), 2, 0), photometric="minisblack")
    refused(path, ImageForm(1, 16), "a single picture is expected, but the file holds 4 .*save it as one page")


def test_transparent_colour_of_a_deep_png(tmp_path):
    path = save_png(tmp_path / "a.png", values(3, "uint16"), chunk(b"tRNS", bytes(6)))
    refused(path, ImageForm(3, 16), r"3 bands of 16 bits are expected, but reading it gives 4 .*transparent")


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_damage(tmp_path, name):
    path = tmp_path / name
    if name == "a.tif":
        save_tiff(path, values(4, "uint16"), compression="zlib")
    else:
        save_png(path, values(4, "uint16"))
    content = path.read_bytes()
    path.write_bytes(content[:-40] if name == "a.png" else content.replace(b"\x78", b"\xff"))
    refused(path, ImageForm(4, 16), r"cannot read the image \(", OSError)


def test_damaged_tags(tmp_path):
    """A second page without a width, and a volume."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2, 70, 90, 3), np.uint8), photometric="rgb", metadata=None)
    first, width, second = path.read_bytes().rpartition(struct.pack("<HHI", 256, 4, 1))
    path.write_bytes(first + struct.pack("<HHI", 65000, 4, 1) + second)
    refused(path, ImageForm(3, 8), r"cannot read the image \(", OSError)
    tifffile.imwrite(path, np.zeros((16, 16, 16, 4), np.uint16), volumetric=True, tile=(16, 16, 16), metadata=None)
    refused(path, ImageForm(4, 16), "4 bands of 16 bits are expected, but reading it gives an array of 4")


def test_every_cut_of_a_tiff_is_an_error(tmp_path):
    path = tmp_path / "a.tif"
    save_tiff(path, values(4, "uint16"), compression="zlib")
    content = path.read_bytes()
    for length in range(1, len(content) - 1, 7):
        path.write_bytes(content[:length])
        with pytest.raises((OSError, ValueError), match=re.escape(str(path))):
            read_image(path, ImageForm(4, 16))


def test_huge_tiff_is_refused_by_its_header(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(5, "uint16"), photometric="minisblack", planarconfig="contig")
    content = path.read_bytes()
    for tag in (256, 257):
        place = content.index(struct.pack("<HHI", tag, 4 if struct.pack("<HHI", tag, 4, 1) in content else 3, 1))
        kind = struct.unpack("<H", content[place + 2 : place + 4])[0]
        number = struct.pack("<I", 60000) if kind == 4 else struct.pack("<HH", 60000, 0)
        content = content[: place + 8] + number + content[place + 12 :]
    path.write_bytes(content)
    refused(path, ImageForm(5, 16), r"cannot read the image \(Image size \(3600000000 pixels\) exceeds limit", OSError)


def test_missing_package(tmp_path, monkeypatch):
    """The check before a training says so, which decodes nothing."""
    original = importlib.import_module

    def without(name, *arguments):
        if name == "imagecodecs":
            raise ImportError("No module named 'imagecodecs'")
        return original(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without)
    data = ImageFolder(make_bands(tmp_path), "train")
    data.expect(find_form(data))
    with pytest.raises(MissingPackageError, match=r"need the package imagecodecs.*ladderseg_fast\[tiff\]"):
        check_pairs(data)


# --- the form of a data set


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint16"), (2, "uint8"), (4, "uint16"), (7, "uint8")])
def test_form_of_the_first_image_is_that_of_all(tmp_path, bands, dtype):
    data = ImageFolder(make_bands(tmp_path, SIZE, bands, dtype), "train")
    form = find_form(data)
    assert form == (bands, 8 * np.dtype(dtype).itemsize)
    data.expect(form)
    check_pairs(data)
    assert data[0].image.shape == (*SIZE, bands)
    assert data[0].image.dtype == dtype
    save_image(data.files(1)[0].with_suffix(".png"), SIZE)
    data.pairs = [
        pair._replace(image=pair.image.with_suffix(".png")) if pair.name == "b" else pair for pair in data.pairs
    ]
    with pytest.raises(ValueError, match=r"b\.png: .* are expected, but the image has 3 channels of 8 bits \(RGB\)"):
        check_pairs(data)


def test_form_of_rgb_images(tmp_path):
    """What RGB holds without loss is RGB, as long as nobody asks for bands."""
    data = ImageFolder(make_folder(tmp_path), "train")
    assert find_form(data) == RGB
    assert find_form(data, bits=8) == RGB
    assert find_form(data, bands=1) == (1, 8)
    Image.new("LA", (32, 24)).save(data.files(0)[0])
    assert find_form(data) == RGB
    assert find_form(data, bands=2) == (2, 8)
    data.files(0)[0].write_bytes(b"")
    assert find_form(data) == RGB, "the second image's"
    with pytest.raises(ValueError, match="bands must be 1 to 32, got 33"):
        find_form(data, bands=33)
    assert find_form(StreetScenes(1, (16, 16))) == RGB
    with pytest.raises(ValueError, match="images of this data set are RGB of 8 bits, not 4 bands of 8 bits"):
        StreetScenes(1, (16, 16)).expect(ImageForm(4, 8))


def test_transparency_of_16_bits_is_a_band_only_if_asked_for(tmp_path):
    data = ImageFolder(make_folder(tmp_path), "train")
    save_png(data.files(0)[0], values(4, "uint16"))
    with pytest.raises(ValueError, match=r"a\.png: the image has 16 bits .* data.bands = 4 reads the channel"):
        find_form(data)
    assert find_form(data, bands=4) == (4, 16)


def test_a_data_set_has_a_pair():
    with pytest.raises(ValueError, match="a data set of files needs at least one pair"):
        FilePairs([])


def test_form_where_no_image_says_it(tmp_path):
    """Reading them says what is wrong."""
    data = ImageFolder(make_folder(tmp_path, SIZE), "train")
    for index in range(len(data)):
        data.files(index)[0].write_text("no image")
    assert find_form(data) == RGB
    assert find_form(data, bits=16) == (3, 16)


def test_form_where_the_first_image_cannot_be_used(tmp_path):
    data = ImageFolder(make_folder(tmp_path, SIZE), "train")
    Image.new("CMYK", SIZE[::-1]).save(data.files(0)[0], format="JPEG")
    assert find_form(data, bits=12) == (3, 12)
    assert find_form(data, bands=2) == (2, 8)
