"""Images from files: formats, orientation, damage."""

import struct

import numpy as np
import pytest
from PIL import Image

from ladderseg_fast.data import ImageForm, read_annotation, read_image
from ladderseg_fast.data.big_endian_tiff import as_ordinary_tiff
from ladderseg_fast.data.image_header import read_header


@pytest.mark.parametrize(("mode", "colour", "expected"), [("L", 90, (90, 90, 90)), ("RGBA", (1, 2, 3, 128), (1, 2, 3))])
def test_becomes_rgb(tmp_path, mode, colour, expected):
    path = tmp_path / "image.png"
    Image.new(mode, (5, 4), colour).save(path)
    image = read_image(path)
    assert image.shape == (4, 5, 3)
    assert image.dtype == np.uint8
    assert (image == expected).all()


def test_palette_annotation_gives_indices(tmp_path):
    path = tmp_path / "labels.png"
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(indices)
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(path)
    assert np.array_equal(read_annotation(path), indices)


def test_photo_is_turned_upright(tmp_path):
    path = tmp_path / "photo.jpg"
    stored = np.zeros((40, 80, 3), np.uint8)
    stored[:, :40] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left edge is the top of the scene
    Image.fromarray(stored).save(path, exif=exif)
    image = read_image(path)
    assert image.shape == (80, 40, 3)
    assert image[:30].min() > 200
    assert image[-30:].max() < 50


def test_deep_image_is_refused(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"deep\.png: the image has 16 bits per channel, grey; 8-bit"):
        read_image(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")


def test_not_an_image(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("hello")
    with pytest.raises(OSError, match=r"text\.png: not an image"):
        read_image(path)


def test_every_truncation_is_an_error_that_names_the_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    whole, part = tmp_path / "whole.png", tmp_path / "part.png"
    Image.fromarray(noise).save(whole)
    data = whole.read_bytes()
    # Whole without its end mark (from 4 bytes before its name), the chunk's and the pixels' checksum (4 each).
    pixels_end = data.rindex(b"IEND") - 12
    for length in range(0, pixels_end - 4, 7):
        part.write_bytes(data[:length])
        with pytest.raises(OSError, match=r"part\.png: ") as caught:
            read_image(part)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (3, {"photometric": "rgb"}),
        (3, {"photometric": "rgb", "compression": "zlib", "tile": (16, 16)}),
        (3, {"photometric": "rgb", "extratags": [(274, 3, 1, 6, True)]}),
        (1, {"photometric": "minisblack"}),
        (1, {"photometric": "miniswhite"}),
        (1, {"photometric": "palette", "colormap": np.arange(768, dtype=np.uint16).reshape(3, 256) * 85}),
        (4, {"photometric": "separated"}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_big_endian_bigtiff_is_read_as_others(tmp_path, channels, options):
    """Pillow takes it for a TIFF of another kind."""
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, channels), np.uint8).squeeze()
    images = []
    for kind in ({"byteorder": "<"}, {"byteorder": ">", "bigtiff": True}):
        tifffile.imwrite(tmp_path / "a.tif", pixels, **kind, **options)
        images.append(read_image(tmp_path / "a.tif"))
    assert np.array_equal(*images)
    header = read_header(tmp_path / "a.tif")
    assert header.size == images[0].shape[:2]


def test_big_endian_bigtiff_that_cannot_be_used(tmp_path):
    tifffile, path = pytest.importorskip("tifffile"), tmp_path / "a.tif"
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50, 4)).astype(np.uint16)
    tifffile.imwrite(path, deep, photometric="minisblack", planarconfig="contig", byteorder=">", bigtiff=True)
    assert np.array_equal(read_image(path, ImageForm(4, 16)), deep)
    with pytest.raises(ValueError, match=r"a\.tif: the image has 16 bits per channel, grey"):
        read_image(path)
    tifffile.imwrite(path, deep[..., :3].astype(np.uint8), photometric="rgb", byteorder=">", bigtiff=True)
    content = path.read_bytes()
    for length in (20, 300, len(content) - 100):
        path.write_bytes(content[:length])
        with pytest.raises(OSError, match=r"a\.tif: cannot read the image"):
            read_image(path)


def test_big_endian_bigtiff_of_other_colours(tmp_path):
    tifffile, path = pytest.importorskip("tifffile"), tmp_path / "a.tif"
    pixels = np.zeros((40, 50, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", byteorder=">", bigtiff=True)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(8)  # CIELAB
    with pytest.raises(ValueError, match=r"a\.tif: the colours of a big-endian BigTIFF must be grey, RGB, a palette"):
        as_ordinary_tiff(path)


def test_a_size_that_is_no_whole_number(tmp_path):
    tifffile, path = pytest.importorskip("tifffile"), tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((40, 50, 3), np.uint8), photometric="rgb", byteorder=">", bigtiff=True)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["ImageWidth"].offset + 2
    content = path.read_bytes()
    path.write_bytes(content[:place] + struct.pack(">H", 11) + content[place + 2 :])  # a floating-point number
    with pytest.raises(OSError, match=r"a\.tif: .*damaged tags"):
        read_header(path)


def test_orientation_behind_other_data_of_applications(tmp_path):
    """Some cameras write XMP before EXIF, in a segment of the same kind."""
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(path, exif=exif)
    content, xmp = path.read_bytes(), b"http://ns.adobe.com/xap/1.0/\0<x/>"
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + content[2:])
    assert read_image(path).shape == (80, 40, 3)


def test_labels_of_another_format(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match=r"a\.bmp: labels must be a PNG file, but this is BMP"):
        read_annotation(tmp_path / "a.bmp")


def test_bitmaps(tmp_path):
    """They have no greatest value."""
    bits = np.random.default_rng(0).integers(0, 2, (6, 8)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "a.pbm")
    assert np.array_equal(read_image(tmp_path / "a.pbm"), np.repeat(255 * bits[..., None], 3, 2))
