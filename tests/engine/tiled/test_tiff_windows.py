"""TIFF files read in the tiles and strips that they are stored in."""

import builtins
import re
import struct

import numpy as np
import pytest
from support.window_files import check_windows, picture

from ladderseg_fast.data import read_image
from ladderseg_fast.engine.tiled import open_windows
from ladderseg_fast.engine.tiled.tiff_windows import TiffWindows
from ladderseg_fast.models.weights import MissingPackageError

tifffile = pytest.importorskip("tifffile")


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "rgb" if pixels.shape[-1] in (3, 4) else "minisblack", **options})


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 16},
    "tiles": {"tile": (32, 48)},
    "big": {"tile": (16, 16), "bigtiff": True},
    "big-endian": {"byteorder": ">", "rowsperstrip": 20},
    "big-endian tiles": {"byteorder": ">", "tile": (32, 32), "compression": "zlib"},
    "deflate": {"rowsperstrip": 9, "compression": "zlib"},
    "predictor": {"tile": (32, 32), "compression": "zlib", "predictor": True},
    "planes": {"planarconfig": "separate", "tile": (32, 32)},
    "planes of strips": {"planarconfig": "separate", "rowsperstrip": 11, "compression": "zlib"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_layouts(tmp_path, layout, dtype):
    options, pixels = LAYOUTS[layout], picture(3, dtype)
    if options.get("planarconfig"):
        write(tmp_path / "a.tif", np.moveaxis(pixels, -1, 0), **options, photometric="rgb")
    else:
        write(tmp_path / "a.tif", pixels, **options)
    with TiffWindows(tmp_path / "a.tif") as image:
        check_windows(image, pixels)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits"])
def test_compressions_of_imagecodecs(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    write(tmp_path / "a.tif", picture(3), tile=(32, 32), compression=compression)
    with TiffWindows(tmp_path / "a.tif") as image:
        check_windows(image, picture(3))


def test_jpeg_is_decoded_as_tifffile_does(tmp_path):
    pytest.importorskip("imagecodecs")
    write(tmp_path / "a.tif", picture(3), tile=(32, 32), compression="jpeg")
    with TiffWindows(tmp_path / "a.tif") as image:
        check_windows(image, tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_bands(tmp_path, channels):
    pixels = picture(channels, np.uint16)
    planes = None if channels == 1 else "contig"
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels.squeeze(),
        photometric="minisblack",
        planarconfig=planes,
        compression="zlib",
        rowsperstrip=8,
    )
    with TiffWindows(tmp_path / "a.tif", stored=True) as image:
        check_windows(image, pixels)


@pytest.mark.parametrize(("channels", "photometric"), [(3, "minisblack"), (3, "miniswhite"), (4, "rgb"), (5, "rgb")])
def test_bands_are_no_colours(tmp_path, channels, photometric):
    """As untiled: three bands that are not marked as RGB are not taken for it."""
    path = tmp_path / "a.tif"
    extra = ["unspecified"] * (channels - 3 if photometric == "rgb" else channels - 1)
    tifffile.imwrite(path, picture(channels), photometric=photometric, planarconfig="contig", extrasamples=extra)
    with pytest.raises(ValueError, match=r"more bands? not marked as transparency") as whole:
        read_image(path)
    with pytest.raises(ValueError) as tiled:
        open_windows(path)
    text = re.sub(r" \(minis\w+\)|, which Pillow does not read", "", str(whole.value))
    assert str(tiled.value) == text


def test_bilevel_white_is_zero_and_palettes(tmp_path):
    path = tmp_path / "a.tif"
    bits = picture(1)[..., 0] > 128
    tifffile.imwrite(path, bits, photometric="minisblack", tile=(16, 16))
    with TiffWindows(path) as image:
        check_windows(image, bits[..., None].astype(np.uint8) * np.uint8(255))
    write(path, picture(1)[..., 0], photometric="miniswhite")
    with TiffWindows(path) as image:
        check_windows(image, 255 - picture(1))
    colours = np.random.default_rng(0).integers(0, 256, (256, 3))
    tifffile.imwrite(path, picture(1)[..., 0], photometric="palette", colormap=(colours.T * 257).astype(np.uint16))
    with TiffWindows(path) as image:
        check_windows(image, colours[picture(1)[..., 0]].astype(np.uint8))


def test_transparency_that_is_a_mask_is_dropped(tmp_path):
    path, pixels = tmp_path / "a.tif", picture(4)
    pixels[..., 3] = 255 * (pixels[..., 3] > 99)
    write(path, pixels, extrasamples=["unassalpha"])
    with TiffWindows(path) as image:
        check_windows(image, pixels[..., :3])
    write(path, picture(4), extrasamples=["unassalpha"])
    with TiffWindows(path) as image, pytest.raises(ValueError, match=r"a\.tif: the band called alpha has values"):
        image.read(0, 70, 0, 90)


def test_channels_as_they_are_stored(tmp_path):
    path = tmp_path / "a.tif"
    for dtype in (np.uint8, np.uint16):
        write(path, picture(4, dtype), extrasamples=["unassalpha"], tile=(32, 32), compression="zlib")
        with TiffWindows(path, stored=True) as image:
            check_windows(image, picture(4, dtype))
    write(path, picture(1)[..., 0], photometric="miniswhite")
    with pytest.raises(
        ValueError, match=r"a\.tif: the image has MINISWHITE pixels; bands of 8 to 16 bits are expected"
    ):
        TiffWindows(path, stored=True)


def test_bits_between_8_and_16(tmp_path):
    pytest.importorskip("imagecodecs")
    pixels = picture(3, np.uint16) >> 4
    write(tmp_path / "a.tif", pixels, bitspersample=12, rowsperstrip=8)
    with TiffWindows(tmp_path / "a.tif", stored=True) as image:
        check_windows(image, pixels)


def test_smaller_copies_are_left_alone_and_several_pictures_refused(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(picture(3), tile=(32, 32), photometric="rgb")
        file.write(picture(3)[::2, ::2], tile=(32, 32), photometric="rgb", subfiletype=1)
    with TiffWindows(path) as image:
        check_windows(image, picture(3))
    with tifffile.TiffWriter(path) as file:
        file.write(picture(3), photometric="rgb")
        file.write(picture(1), photometric="minisblack")
    with pytest.raises(ValueError, match=r"a single picture is expected, but the file holds 2"):
        TiffWindows(path)


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (picture(3).astype(np.float32), {}, "32 bits per channel, float32; whole numbers of 8 to 16 are read"),
        (picture(3).astype(np.int16), {}, "16 bits per channel, int16"),
        (picture(4), {"photometric": "separated"}, "colours are SEPARATED"),
        (picture(3), {"extratags": [(274, 3, 1, 6, True)]}, r"stored turned \(orientation 6\)"),
    ],
)
def test_pixels_that_cannot_be_used_are_refused(tmp_path, pixels, options, message):
    write(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(ValueError, match=rf"a\.tif: .*{message}"):
        TiffWindows(tmp_path / "a.tif")


@pytest.mark.parametrize("layout", ["one strip", "strips", "tiles", "deflate"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_truncated_file_is_noticed(tmp_path, layout, share):
    """Directories of tifffile come first, so a cut file still opens."""
    path = tmp_path / "a.tif"
    write(path, picture(3), **LAYOUTS[layout])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(OSError, match=r"a\.tif: .*(truncated|cannot read)"):
        with TiffWindows(path) as image:
            image.read(0, 70, 0, 90)


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "a.tif"
    write(path, picture(3), tile=(32, 32), compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[3]
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    with TiffWindows(path) as image:
        with pytest.raises(OSError, match=r"a\.tif: row 32, column 0: cannot decode the pixels"):
            image.read(0, 70, 0, 90)
    path.write_bytes(b"II*\0" + bytes(20))
    with pytest.raises(OSError, match=r"a\.tif: "):
        TiffWindows(path)


def test_palette_of_two_colours(tmp_path):
    path, pixels = tmp_path / "a.tif", picture(1)[..., 0] > 128
    colours = (320, 3, 6, (0, 65535, 0, 0, 0, 65535), True)
    write(path, pixels, photometric="minisblack", extratags=[colours], metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(3)
    with TiffWindows(path) as image:
        check_windows(image, np.array([[0, 0, 0], [255, 0, 255]], np.uint8)[pixels.astype(np.uint8)])


def test_a_palette_that_is_missing_is_damage(tmp_path):
    path = tmp_path / "a.tif"
    write(path, picture(1)[..., 0], photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["ColorMap"].offset
    content = path.read_bytes()
    path.write_bytes(content[:place] + struct.pack("<H", 65000) + content[place + 2 :])
    with pytest.raises(OSError, match=r"a\.tif: damaged: cannot read the TIFF"):
        TiffWindows(path)


def test_a_palette_that_is_too_short_is_damage(tmp_path):
    path = tmp_path / "a.tif"
    colours = (320, 3, 6, (0, 65535, 0, 0, 0, 65535), True)
    write(path, picture(1)[..., 0], extratags=[colours], metadata=None, photometric="minisblack")
    overwrite(path, PhotometricInterpretation=3)
    with (
        TiffWindows(path) as image,
        pytest.raises(OSError, match=r"a\.tif: damaged: a pixel's colour is not in the pal"),
    ):
        image.read(0, 70, 0, 90)


def overwrite(path, **tags):
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, value in tags.items():
            file.pages[0].tags[name].overwrite(value)


def as_floats(path, name):
    """Declares the values of a tag, of 4 bytes each, to be floating-point numbers."""
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[name].offset + 2
    content = path.read_bytes()
    path.write_bytes(content[:place] + struct.pack("<H", 11) + content[place + 2 :])


def test_few_bits_and_volumes_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    write(path, picture(1)[..., 0])
    overwrite(path, BitsPerSample=4)
    with pytest.raises(ValueError, match=r"a\.tif: the image has 4 bits per channel; save it with 8 or 16"):
        TiffWindows(path)
    volume = np.zeros((16, 32, 32), np.uint8)
    tifffile.imwrite(path, volume, photometric="minisblack", volumetric=True, tile=(16, 16, 16))
    with pytest.raises(ValueError, match=r"a\.tif: a picture of rows and columns is expected, but .* axes .*depth"):
        TiffWindows(path)


def test_places_and_sizes_that_are_no_whole_numbers(tmp_path):
    path = tmp_path / "a.tif"
    write(path, picture(3), tile=(32, 32), compression="zlib")
    as_floats(path, "TileOffsets")
    with TiffWindows(path) as image:
        with pytest.raises(
            OSError, match=r"a\.tif: row 0, column 0: damaged: the place of the pixels is no whole number"
        ):
            image.read(0, 10, 0, 10)
    write(path, picture(3), rowsperstrip=16, compression="zlib")
    as_floats(path, "RowsPerStrip")
    with pytest.raises(OSError, match=r"a\.tif: damaged: rowsperstrip is no whole number"):
        TiffWindows(path)


def test_strips_too_large_to_be_decoded(tmp_path):
    path = tmp_path / "a.tif"
    write(path, picture(3), rowsperstrip=70, compression="zlib")
    overwrite(path, ImageLength=2**31 - 1, RowsPerStrip=2**31 - 1)
    with pytest.raises(
        ValueError, match=r"a\.tif: .*compressed strips of 2147483647 rows, too large.*save it in tiles"
    ):
        TiffWindows(path)


def test_fewer_tiles_than_the_size_needs(tmp_path):
    path = tmp_path / "a.tif"
    write(path, picture(3), tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(2**31 - 1)
    with pytest.raises(OSError, match=r"a\.tif: damaged: it does not say where all of its 2147483647x90 pixels are"):
        TiffWindows(path)


def test_tiles_that_the_writer_left_out_are_without_data(tmp_path):
    """As GDAL writes sparse files: their offsets and lengths are 0, and a tag says what stands for no data."""
    path = tmp_path / "a.tif"
    nodata = (42113, "s", 0, "7", True)
    write(path, picture(1)[..., 0], tile=(32, 32), compression="zlib", extratags=[nodata])
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = file.pages[0].tags[name]
            tag.overwrite((0, *tag.value[1:]))
    with TiffWindows(path) as image:
        assert (image.read(0, 32, 0, 32) == 7).all()
        assert np.array_equal(image.read(32, 64, 32, 64)[..., 0], picture(1)[32:64, 32:64, 0])


def test_tiles_are_decoded_once_and_let_go(tmp_path):
    write(tmp_path / "a.tif", picture(3, size=(256, 96)), tile=(16, 32), compression="zlib")
    with TiffWindows(tmp_path / "a.tif") as image:
        segments, seen = image._stored, []
        decode = segments._segment
        segments._segment = lambda *place: seen.append(place[1:3]) or decode(*place)
        for top in range(0, 224, 32):
            for left in (0, 32):
                image.read(top, top + 48, left, left + 64)
                assert len(segments._decoded) <= 9
        assert len(seen) == len(set(seen)) == 15 * 3


def test_missing_packages_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    write(path, picture(3))

    def without(name, *arguments):
        if name == "tifffile":
            raise ImportError(name)
        return original(name, *arguments)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r'pip install "ladderseg_fast\[tiff\]"'):
        TiffWindows(path)


@pytest.mark.parametrize("decoded", [None, np.zeros((1, 32, 31, 3), np.uint8)])
def test_fewer_pixels_in_a_tile_than_its_size(tmp_path, decoded, monkeypatch):
    write(tmp_path / "a.tif", picture(3), tile=(32, 32), compression="zlib")
    monkeypatch.setattr(tifffile.TiffPage, "decode", lambda *arguments, **options: (decoded, None, None))
    with TiffWindows(tmp_path / "a.tif") as image:
        with pytest.raises(OSError, match=r"a\.tif: row 0, column 0: damaged: there are too few pixels"):
            image.read(0, 10, 0, 10)


def test_missing_decoder_is_named(tmp_path):
    write(tmp_path / "a.tif", picture(3), tile=(32, 32), compression="zlib")
    with TiffWindows(tmp_path / "a.tif") as image:

        class Page:
            def __getattr__(self, name):
                return getattr(page, name)

            def decode(self, *arguments, **options):
                raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

        page = image._stored._page
        image._stored._page = Page()
        with pytest.raises(MissingPackageError, match=r'imagecodecs: pip install "ladderseg_fast\[tiff\]"'):
            image.read(0, 10, 0, 10)
