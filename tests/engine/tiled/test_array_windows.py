"""Arrays in memory, in files of NumPy, and of Zarr; and the choice of the reader."""

import numpy as np
import pytest
from PIL import Image
from support.window_files import check_windows, picture, write_png

from ladderseg_fast.data import RGB, ImageForm
from ladderseg_fast.engine.tiled import ArrayWindows, open_windows
from ladderseg_fast.engine.tiled.array_windows import MappedWindows
from ladderseg_fast.engine.tiled.png_windows import PngWindows
from ladderseg_fast.engine.tiled.tiff_windows import TiffWindows


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
def test_npy_files_are_mapped(tmp_path, dtype):
    pixels = picture(3, np.uint8).astype(dtype)
    np.save(tmp_path / "a.npy", pixels)
    with open_windows(tmp_path / "a.npy") as image:
        assert isinstance(image, MappedWindows)
        check_windows(image, pixels.astype(np.dtype(dtype).newbyteorder("=")))
    np.save(tmp_path / "a.npy", np.asfortranarray(pixels))
    with open_windows(tmp_path / "a.npy") as image:
        check_windows(image, pixels.astype(np.dtype(dtype).newbyteorder("=")))


def test_windows_of_a_mapped_file_are_copies(tmp_path):
    np.save(tmp_path / "a.npy", picture(3))
    with open_windows(tmp_path / "a.npy") as image:
        window = image.read(0, 10, 0, 10)
    assert window.base is None or not isinstance(window.base, np.memmap)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays(tmp_path, zarr_format):
    zarr = pytest.importorskip("zarr", minversion="3")
    pixels = picture(3, np.uint16)
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=pixels.shape, chunks=(32, 32, 3), dtype="uint16", zarr_format=zarr_format
    )
    array[:] = pixels
    with open_windows(tmp_path / "a.zarr") as image:
        check_windows(image, pixels)
    chunk = max((tmp_path / "a.zarr").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    chunk.write_bytes(chunk.read_bytes()[:20])
    with open_windows(tmp_path / "a.zarr") as image:
        with pytest.raises(OSError, match=r"a\.zarr: cannot read the chunks of rows 0 to 70, columns 0 to 90"):
            image.read(0, 70, 0, 90)
    zarr.create_group(tmp_path / "group", zarr_format=zarr_format)
    with pytest.raises(ValueError, match="a Zarr group, where one array is expected"):
        open_windows(tmp_path / "group")


def test_a_long_word_of_zarr_metadata_is_not_repeated(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), chunks=(4, 4), dtype="uint8", zarr_format=3)
    metadata = tmp_path / "a.zarr" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"chunk_shape"', f'"{"f" * 5000}"', 1))
    with pytest.raises(OSError, match=r"a\.zarr: cannot read the Zarr array \(") as caught:
        open_windows(tmp_path / "a.zarr")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
def test_zarr_metadata_nested_too_deep(tmp_path, name):
    pytest.importorskip("zarr", minversion="3")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / name).write_text("[" * 100_000)
    with pytest.raises(OSError, match=r"a\.zarr: cannot read the Zarr array \("):
        open_windows(tmp_path / "a.zarr")


def test_one_channel_needs_no_axis():
    check_windows(ArrayWindows(picture(1)[..., 0], "grey"), picture(1))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5), np.float32), "must be of uint8 or uint16, got float32"),
        (np.zeros((4, 5), np.int8), "must be of uint8 or uint16, got int8"),
        (np.zeros(4, np.uint8), r"must be \[H, W, C\] or \[H, W\], got shape \(4,\)"),
        (np.zeros((0, 5, 3), np.uint8), r"must be .*, got shape \(0, 5, 3\)"),
        (np.zeros((1, 2, 5, 3), np.uint8), r"must be .*, got shape \(1, 2, 5, 3\)"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=rf"a\.npy: an array {message}"):
        open_windows(tmp_path / "a.npy")


def test_damaged_npy_files(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, picture(3))
    data = path.read_bytes()
    for length in (6, 20, 200, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(OSError, match=r"a\.npy: cannot read the array"):
            open_windows(path)
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises((OSError, ValueError), match=r"a\.npy"):
        open_windows(path)
    np.save(path, picture(3))
    with open_windows(path) as image:
        path.write_bytes(data[:5000])
        with pytest.raises(OSError, match=r"a\.npy: cannot read the array"):
            image.read(60, 70, 0, 90)


def test_the_file_has_the_bits_that_are_expected(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    write_png(tmp_path / "a.png", picture(4, np.uint16), 16, 6)
    tifffile.imwrite(tmp_path / "a.tif", picture(4, np.uint16), photometric="rgb", extrasamples=["unassalpha"])
    for name in ("a.png", "a.tif"):
        with open_windows(tmp_path / name, ImageForm(4, 16)) as image:
            check_windows(image, picture(4, np.uint16))
        for form in (RGB, ImageForm(4, 12), ImageForm(4, 8)):
            with pytest.raises(ValueError, match=rf"{form} are expected, but the image has 16 bits per channel"):
                open_windows(tmp_path / name, form)


def test_the_content_decides_about_the_reader(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    write_png(tmp_path / "png.tif", picture(3), 8, 2)
    tifffile.imwrite(tmp_path / "tiff.png", picture(3), photometric="rgb")
    Image.fromarray(picture(3)).save(tmp_path / "bmp.npy", "bmp")
    for name, kind in (("png.tif", PngWindows), ("tiff.png", TiffWindows), ("bmp.npy", ArrayWindows)):
        with open_windows(tmp_path / name) as image:
            assert type(image) is kind
            check_windows(image, picture(3))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        open_windows(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(OSError, match=r"text\.png: not an image"):
        open_windows(tmp_path / "text.png")
