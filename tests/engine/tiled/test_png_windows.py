"""PNG files read row by row."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.window_files import check_windows, chunk, picture, write_png

from ladderseg_fast.data import ImageForm, read_image
from ladderseg_fast.data.band_files import png_orientation
from ladderseg_fast.engine.tiled import png_stream
from ladderseg_fast.engine.tiled.png_windows import PngWindows


@pytest.fixture(autouse=True, params=[1, 1 << 22])
def batch(request, monkeypatch):
    """Rows are decoded one by one, or all together."""
    monkeypatch.setattr(png_stream, "_BATCH", request.param)


@pytest.mark.parametrize(
    ("bits", "colour_type", "samples"), [(8, 0, 1), (8, 2, 3), (8, 4, 2), (8, 6, 4), (16, 0, 1), (16, 2, 3), (16, 4, 2)]
)
def test_every_filter_of_every_pixel(tmp_path, bits, colour_type, samples):
    pixels = picture(samples, np.uint16 if bits == 16 else np.uint8)
    write_png(tmp_path / "a.png", pixels, bits, colour_type)
    with PngWindows(tmp_path / "a.png") as image:
        check_windows(image, pixels[..., : 3 if samples > 2 else 1])


def test_sixteen_bits_with_transparency(tmp_path):
    pixels = picture(4, np.uint16)
    write_png(tmp_path / "a.png", pixels, 16, 6)
    with PngWindows(tmp_path / "a.png") as image:
        check_windows(image, pixels[..., :3])


@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4]])
def test_one_filter_alone(tmp_path, filters):
    pixels = picture(3)
    write_png(tmp_path / "a.png", pixels, 8, 2, filters, pieces=1 << 20)
    with PngWindows(tmp_path / "a.png") as image:
        check_windows(image, pixels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits_reach_white(tmp_path, bits):
    pixels = picture(1) % 2**bits
    write_png(tmp_path / "a.png", pixels, bits, 0)
    with PngWindows(tmp_path / "a.png") as image:
        check_windows(image, pixels * np.uint8(255 // (2**bits - 1)))
        assert np.array_equal(image.read(0, 70, 0, 90)[..., 0], np.asarray(Image.open(tmp_path / "a.png").convert("L")))


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes_become_colours(tmp_path, bits):
    indices = picture(1) % 2 ** min(bits, 6)
    colours = np.random.default_rng(1).integers(0, 256, (2 ** min(bits, 6), 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", indices, bits, 3, before=chunk(b"PLTE", colours.tobytes()))
    with PngWindows(tmp_path / "a.png") as image:
        check_windows(image, colours[indices[..., 0]])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
def test_as_pillow_reads_what_it_wrote(tmp_path, mode):
    Image.fromarray(picture(3, size=(80, 100))).convert(mode).save(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    with PngWindows(tmp_path / "a.png") as image:
        window = image.read(5, 77, 10, 100)
    assert np.array_equal(np.broadcast_to(window, (72, 90, 3)), expected[5:77, 10:])


def test_what_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, picture(3), 8, 2, interlace=1)
    with pytest.raises(ValueError, match=r"a\.png: the PNG is interlaced, so it cannot be read row by row"):
        PngWindows(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(3)).save(path, exif=exif)
    whole = path.read_bytes()
    start = whole.index(b"eXIf") - 4
    moved = whole[start : start + 12 + int.from_bytes(whole[start : start + 4], "big")]
    for content in (whole, whole.replace(moved, b"")[:-12] + moved + whole[-12:]):  # before and behind the pixels
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"stored turned \(EXIF orientation 6\)"):
            PngWindows(path)


_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
_PROFILE = b"\nexif\n%8d\n%s\n" % (len(_EXIF), _EXIF.hex().encode())
_XMP = b'<rdf:Description tiff:Orientation="6"/>'


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        chunk(b"tEXt", b"Raw profile type exif\0" + _PROFILE),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(_PROFILE)),
        chunk(b"tEXt", b"Raw profile type APP1\0" + _PROFILE),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP),
        chunk(b"tEXt", b"Comment\0Raw profile type exif"),
    ],
)
def test_orientation_in_texts_is_the_one_that_pillow_finds(tmp_path, text, behind):
    path = tmp_path / "a.png"
    write_png(path, picture(3), 8, 2)
    whole, place = path.read_bytes(), -12 if behind else 33
    path.write_bytes(whole[:place] + text + whole[place:])
    turned = read_image(path).shape == (90, 70, 3)
    assert turned == (png_orientation(path) == 6)
    assert turned or b"APP1" in text or b"Comment" in text
    if turned:
        with pytest.raises(ValueError, match=r"stored turned \(EXIF orientation 6\)"):
            PngWindows(path)
    else:
        PngWindows(path).close()


def test_animations_are_refused(tmp_path):
    frame = Image.fromarray(picture(3))
    frame.save(tmp_path / "a.png", save_all=True, append_images=[Image.fromarray(255 - picture(3))])
    with pytest.raises(ValueError, match=r"a\.png: a single picture is expected, but the file holds 2"):
        PngWindows(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"junk", b"Exif\0\0MM\0*"])
@pytest.mark.parametrize("behind", [False, True])
def test_damaged_exif_data_are_named(tmp_path, content, behind):
    path = tmp_path / "a.png"
    write_png(path, picture(4, np.uint16), 16, 6)
    whole, place = path.read_bytes(), -12 if behind else 33
    path.write_bytes(whole[:place] + chunk(b"eXIf", content) + whole[place:])
    for read in (PngWindows, lambda path: read_image(path, ImageForm(4, 16))):
        with pytest.raises(OSError, match=r"a\.png: cannot read the image"):
            read(path)


@pytest.mark.parametrize(("bits", "colour_type", "samples"), [(8, 0, 1), (8, 6, 4), (16, 4, 2), (16, 6, 4)])
def test_channels_as_they_are_stored(tmp_path, bits, colour_type, samples):
    pixels = picture(samples, np.uint16 if bits == 16 else np.uint8)
    write_png(tmp_path / "a.png", pixels, bits, colour_type)
    with PngWindows(tmp_path / "a.png", stored=True) as image:
        check_windows(image, pixels)


def test_palettes_and_few_bits_are_no_bands(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, picture(1) % 4, 2, 0)
    with pytest.raises(
        ValueError, match=r"a\.png: the image has 2 bits per channel; bands of 8 or 16 bits are expected"
    ):
        PngWindows(path, stored=True)
    write_png(path, picture(1), 8, 3, before=chunk(b"PLTE", bytes(768)))
    with pytest.raises(ValueError, match="the image has a palette"):
        PngWindows(path, stored=True)


def read_all(path):
    with PngWindows(path) as image:
        image.read(0, 20, 0, 90)
        image.read(20, 70, 0, 90)


@pytest.mark.parametrize("share", [0.0001, 0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_file_is_noticed(tmp_path, share):
    path = tmp_path / "a.png"
    write_png(path, picture(3), 8, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(OSError, match=r"a\.png: (truncated|not a PNG)"):
        read_all(path)


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, picture(3), 8, 2)
    whole = path.read_bytes()
    for place in (20, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(OSError, match=r"a\.png: (damaged|truncated)"):
            read_all(path)
    # Correct checksums of wrong content.
    for before, message in ((chunk(b"IHDR", struct.pack(">IIBBBBB", 90, 70, 3, 2, 0, 0, 0)), "not one of a PNG"),):
        path.write_bytes(whole[:8] + before + whole[33:])
        with pytest.raises(OSError, match=message):
            read_all(path)
    write_png(path, picture(1), 8, 3)
    with pytest.raises(OSError, match="no palette"):
        read_all(path)


def test_fewer_rows_than_announced(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, picture(3)[:50], 8, 2)
    data = path.read_bytes()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 90, 70, 8, 2, 0, 0, 0))
    path.write_bytes(data[:8] + header + data[33:])
    with pytest.raises(OSError, match=r"truncated: its pixels end in row 50 of 70"):
        read_all(path)


def test_a_header_cannot_announce_more_than_the_file_may_hold(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, picture(3), 8, 2)
    data = path.read_bytes()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
    path.write_bytes(data[:8] + header + data[33:])
    with pytest.raises(OSError, match=r"truncated: it is too short for 2147483647x2147483647 pixels"):
        PngWindows(path)
    Image.new("RGB", (3000, 1000)).save(path, compress_level=9)  # hardly anything is smaller
    with PngWindows(path) as image:
        assert not image.read(0, 10, 0, 3000).any()


def test_windows_beyond_the_image_are_refused(tmp_path):
    write_png(tmp_path / "a.png", picture(3), 8, 2)
    with PngWindows(tmp_path / "a.png") as image:
        for window in ((0, 71, 0, 90), (0, 70, 0, 91), (-1, 70, 0, 90), (5, 5, 0, 90)):
            with pytest.raises(ValueError, match="a window must be in the image, 70x90"):
                image.read(*window)


def test_stream_of_pillow_is_read_without_seeking_back(tmp_path):
    """Rows that are still needed are kept: the file is read once."""
    data = io.BytesIO()
    Image.fromarray(picture(3)).save(data, "png")
    (tmp_path / "a.png").write_bytes(data.getvalue())
    with PngWindows(tmp_path / "a.png") as image:
        stream = image._stream
        for top in (0, 20, 40):
            for left in (0, 30):
                image.read(top, top + 30, left, left + 60)
        assert image._stream is stream


def test_a_stream_ends_after_its_last_row(tmp_path):
    write_png(tmp_path / "a.png", picture(3), 8, 2)
    stream = png_stream.PngStream(tmp_path / "a.png")
    assert np.array_equal(np.concatenate(list(stream.rows())), picture(3))
    stream.close()


def test_damage_with_correct_checksums(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, picture(3), 8, 2)
    whole = path.read_bytes()
    place, end = whole.index(b"IDAT") - 4, chunk(b"IEND", b"")
    rows = picture(3).reshape(70, -1)
    plain, unknown = (zlib.compress(b"".join(bytes([kind]) + row.tobytes() for row in rows)) for kind in (0, 5))
    endless = struct.pack(">I4s", 2**31 - 1, b"PLTE")
    for content, message in (
        (b"GIF89a" + whole[6:], "not a PNG"),
        (whole[:8] + chunk(b"IHDR", bytes(12)) + whole[33:], "damaged: its header has 12 bytes instead of 13"),
        (whole[:33] + endless + whole[33:], "damaged: a chunk b'PLTE' of 2147483647 bytes"),
        (whole[:place] + chunk(b"IDAT", plain[:-4]) + end, "truncated: its compressed pixels do not end"),
        (whole[:place] + chunk(b"IDAT", unknown) + end, "damaged: a row has a filter that PNG does not know"),
    ):
        path.write_bytes(content)
        with pytest.raises(OSError, match=rf"a\.png: {message}"):
            read_all(path)
    path.write_bytes(whole[:33] + struct.pack(">I4s", 2**31 - 1, b"eXIf") + whole[33:])
    with pytest.raises(OSError, match=r"a\.png: damaged: a chunk eXIf of 2147483647 bytes"):
        png_orientation(path)
