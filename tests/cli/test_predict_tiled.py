"""`ladderseg predict --tile` as a user runs it."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from support.window_files import picture

from ladderseg_fast.cli.main import INTERRUPTED, main
from ladderseg_fast.cli.tiled_prediction import label_in_tiles
from ladderseg_fast.engine import build_model, load_checkpoint
from ladderseg_fast.engine.input_images import InputImage
from ladderseg_fast.engine.tiled import ArrayWindows, LabelArray, TileSize, predict_tiled, scores

#: Four tiles across and six down.
SIZE = (390, 300)
TILES = ["--tile", "128", "--overlap", "64"]


@pytest.fixture(scope="module")
def pixels():
    return picture(3, size=SIZE)


@pytest.fixture
def image(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "big.png")
    return tmp_path / "big.png"


@pytest.fixture(scope="module")
def expected(trained, pixels):
    checkpoint = load_checkpoint(trained)
    labels = LabelArray(SIZE)
    model = build_model(checkpoint, torch.device("cpu"))
    predict_tiled(model, ArrayWindows(pixels, "pixels"), labels, checkpoint.normalisation, TileSize(128, 64))
    assert len(np.unique(labels.labels)) > 1
    return labels.labels


def predict(run, images, out, *options):
    inputs = map(str, images)
    return main(["predict", str(run), *inputs, "--out", str(out), "--device", "cpu", *options])


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_formats_of_images_and_labels(trained, image, pixels, expected, tmp_path, capsys):
    tifffile, out = pytest.importorskip("tifffile"), tmp_path / "out"
    np.save(tmp_path / "array.npy", pixels)
    tifffile.imwrite(tmp_path / "tiles.tif", pixels, tile=(64, 64), photometric="rgb", compression="zlib")
    Image.fromarray(pixels).save(tmp_path / "whole.bmp")
    files = [image, tmp_path / "array.npy", tmp_path / "tiles.tif", tmp_path / "whole.bmp"]
    assert predict(trained, files[:2], out, *TILES) == 0
    assert predict(trained, files[2:3], out, *TILES, "--format", "tiff") == 0
    assert predict(trained, files[3:], out, *TILES, "--format", "npy", "--batch", "3") == 0
    assert names(out) == ["array_labels.png", "big_labels.png", "tiles_labels.tif", "whole_labels.npy"]
    for name in ("array_labels.png", "big_labels.png", "tiles_labels.tif"):
        assert np.array_equal(np.asarray(Image.open(out / name)), expected), name
    # The network is plain PyTorch, whose bits depend on the batch.
    assert np.mean(np.load(out / "whole_labels.npy") == expected) > 0.999
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:2] == [
        f"{image}: {out / 'big_labels.png'}",
        f"{files[1]}: {out / 'array_labels.png'}",
    ]
    assert "labelled 2 of 2 images on cpu" in printed.out
    assert re.search(r"^predict 24/24  tiles  0:00 left$", printed.err, re.MULTILINE)


def test_zarr_arrays_are_images(trained, pixels, expected, tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=(100, 100, 3))
    assert predict(trained, [tmp_path / "a.zarr"], tmp_path / "out", *TILES) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a_labels.png")), expected)


def test_one_tile_gives_the_labels_of_the_whole_image(trained, image, tmp_path):
    assert predict(trained, [image], tmp_path / "tiled", "--tile", "512") == 0
    assert predict(trained, [image], tmp_path / "whole", "--size", "own") == 0
    one, other = (np.asarray(Image.open(tmp_path / name / "big_labels.png")) for name in ("tiled", "whole"))
    assert agree(one, other)


def agree(one, other):
    """Whether labels or their colours are those of the same scores, summed in another order: few pixels have ties."""
    return one.shape == other.shape and np.mean(one == other) > 0.999


WRITTEN = ["--write", "labels,overlays,colours,probabilities-tiff"]


def test_everything_that_one_tile_gives_is_that_of_the_whole_image(trained, image, tmp_path):
    tifffile, (tiled, whole) = pytest.importorskip("tifffile"), (tmp_path / "tiled", tmp_path / "whole")
    assert predict(trained, [image], tiled, "--tile", "512", *WRITTEN) == 0
    assert predict(trained, [image], whole, "--size", "own", *WRITTEN) == 0
    assert names(tiled) == names(whole)
    for name in names(tiled):
        if name.endswith(".png"):
            assert agree(np.asarray(Image.open(tiled / name)), np.asarray(Image.open(whole / name))), name
    pages = []
    for directory in (tiled, whole):
        with tifffile.TiffFile(directory / "big_probabilities.tif") as file:
            pages.append((file.asarray(), file.series[0].axes, json.loads(file.pages[0].description)))
    # Rounded to float16: few may be a unit in the last place away, where float32 sums in another order.
    np.testing.assert_allclose(pages[0][0], pages[1][0], rtol=2**-10)
    assert np.mean(pages[0][0] == pages[1][0]) > 0.999
    assert pages[0][1:] == pages[1][1:]


def test_everything_continues(trained, image, tmp_path, monkeypatch, capsys):
    """Files that are at different rows, two of them of TIFF's tiles, are continued together."""
    monkeypatch.setattr("ladderseg_fast.engine.tiled.tiff_planes.ROWS", 16)
    call = scores.TiledScores._fill

    def interrupt(self, band, row, ahead):
        if row == 3:
            raise KeyboardInterrupt
        call(self, band, row, ahead)

    assert predict(trained, [image], tmp_path / "whole", *TILES, *WRITTEN) == 0
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(scores.TiledScores, "_fill", interrupt)
        assert predict(trained, [image], out, *TILES, *WRITTEN) == INTERRUPTED
    assert len(names(out)) == 9  # the legend is there, too
    (out / "big_colours.png.partial.json").unlink()  # it begins anew, and the others wait for it
    capsys.readouterr()
    assert predict(trained, [image], out, *TILES, *WRITTEN) == 0
    assert capsys.readouterr().err.count("continued from row") == 3
    assert names(out) == names(tmp_path / "whole")
    for name in names(out):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_geotiff_leaves_its_place_to_its_results(trained, pixels, tmp_path, capsys):
    tifffile = pytest.importorskip("tifffile")
    place = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 7.25, 51.5, 0.0), True)]
    keys = [(34735, 3, 8, (1, 1, 0, 1, 2048, 0, 1, 4326), True), (34737, 2, 0, "WGS 84|", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(64, 64), extratags=[*place, *keys])
    assert predict(trained, [tmp_path / "a.tif"], tmp_path / "out", *TILES, *WRITTEN, "--format", "tiff") == 0
    assert len(names(tmp_path / "out")) == 5
    assert "coordinates" not in capsys.readouterr().err
    assert predict(trained, [tmp_path / "a.tif"], tmp_path / "png", "--tile", "512") == 0
    assert "a.tif: --format tiff would keep the coordinates of this GeoTIFF" in capsys.readouterr().err
    for path in (tmp_path / "out").glob("*.tif"):
        with tifffile.TiffFile(path) as file, tifffile.TiffFile(tmp_path / "a.tif") as source:
            for number in (33550, 33922, 34735, 34737):
                assert file.pages[0].tags[number].value == source.pages[0].tags[number].value


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_interrupted_command_continues(trained, image, expected, tmp_path, monkeypatch, capsys, format):
    out, call = tmp_path / "out", scores.TiledScores._fill
    monkeypatch.setattr("ladderseg_fast.engine.tiled.tiff_rows.TILE", 32)

    def interrupt(self, band, row, ahead):
        if row == 3:
            raise KeyboardInterrupt
        call(self, band, row, ahead)

    with monkeypatch.context() as patch:
        patch.setattr(scores.TiledScores, "_fill", interrupt)
        assert predict(trained, [image], out, *TILES, "--format", format) == INTERRUPTED
    name = f"big_labels.{'png' if format == 'png' else 'tif'}"
    assert names(out) == [f"{name}.partial", f"{name}.partial.json"]
    assert f"{out / name}: unfinished; the same command continues it" in capsys.readouterr().err
    done = []
    monkeypatch.setattr(scores.TiledScores, "_fill", lambda self, *rest: done.append(rest[1]) or call(self, *rest))
    assert predict(trained, [image], out, *TILES, "--format", format) == 0
    assert done == [2, 3, 4, 5] if format == "png" else done[0] > 0
    assert re.search(rf"{name}: continued from row \d\d\d of 390", capsys.readouterr().err)
    assert names(out) == [name]
    assert np.array_equal(np.asarray(Image.open(out / name)), expected)


def test_an_image_that_changed_begins_anew(trained, image, tmp_path, monkeypatch, capsys):
    def interrupt(self, *rest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ladderseg_fast.engine.tiled.result_file.ResultFile.finish", interrupt)
        assert predict(trained, [image], tmp_path / "out", *TILES) == INTERRUPTED
    os.utime(image, ns=(0, 0))
    assert predict(trained, [image], tmp_path / "out", *TILES, "--overlap", "0") == 0
    assert "begun anew: what is unfinished is of another image, overlap" in capsys.readouterr().err


def test_bad_images_are_reported_and_the_others_done(trained, image, tmp_path, capsys):
    data = image.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) * 2 // 3])
    (tmp_path / "text.png").write_text("no image")
    np.save(tmp_path / "four.npy", np.zeros((200, 200, 4), np.uint8))
    Image.new("RGB", (300, 40)).save(tmp_path / "low.png")
    bad = [tmp_path / name for name in ("cut.png", "text.png", "four.npy", "low.png", "none.png")]
    assert predict(trained, [*bad, image], tmp_path / "out", *TILES) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    for line, pattern in zip(
        errors,
        (
            r"cut\.png: truncated",
            r"text\.png: not an image",
            r"four\.npy: RGB of 8 bits are expected, but the image has 4 channels of 8 bits",
            r"low\.png: image is 40x300, at least 64x64 \(HxW\) is needed",
            r"none\.png",
        ),
        strict=True,
    ):
        assert re.match(rf"ladderseg: error: .*{pattern}", line)
    assert "big_labels.png" in names(tmp_path / "out")


def test_images_above_the_limit_say_what_may_have_any_size(trained, tmp_path, capsys):
    Image.new("RGB", (200, 200)).save(tmp_path / "a.bmp")
    assert predict(trained, [tmp_path / "a.bmp"], tmp_path / "out", *TILES, "--max-pixels", "1000") == 2
    error = capsys.readouterr().err
    assert "PNG, TIFF, .npy and Zarr images are read in windows, of any size; --max-pixels N reads others" in error
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    assert predict(trained, [tmp_path / "a.png"], tmp_path / "out", *TILES, "--max-pixels", "1000") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "64"], "--overlap is of use with --tile only"),
        (["--format", "npy"], "--format is of use with --tile only"),
        (["--tile", "100"], "--tile must be a multiple of 64, this network's stride, from 128, got 100"),
        (["--tile", "64"], "--tile must be a multiple of 64"),
        (["--tile", "128", "--overlap", "128"], "--overlap must be from 0 to less than the tile, 128 pixels, got 128"),
        (["--tile", "128", "--overlap", "20"], "--overlap must be a multiple of 64"),
        (["--tile", "128", "--size", "96x96"], "--size HxW cannot go with --tile"),
        (
            ["--tile", "128", "--write", "labels,probabilities"],
            "--write probabilities cannot go with --tile, which writes in strips: labels, overlays, colours, "
            "probabilities-tiff",
        ),
    ],
)
def test_options_that_do_not_fit(trained, image, tmp_path, capsys, options, message):
    assert predict(trained, [image], tmp_path / "out", *options) == 2
    assert f"ladderseg: error: {message}" in capsys.readouterr().err


def test_videos_are_labelled_as_wholes(tmp_path):
    film = InputImage(tmp_path / "film.mp4", tmp_path / "film")
    with pytest.raises(ValueError, match=r"film\.mp4: the frames of a video are labelled as wholes, without --tile"):
        label_in_tiles(argparse.Namespace(), [film], None, None)


def test_results_never_overwrite_an_image(trained, tmp_path, pixels, capsys):
    out = tmp_path / "out"
    out.mkdir()
    np.save(out / "a_labels.npy", pixels)
    np.save(tmp_path / "a.npy", pixels)
    files = [tmp_path / "a.npy", out / "a_labels.npy"]
    assert predict(trained, files, out, *TILES, "--format", "npy") == 2
    assert "would overwrite an input image" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_process_is_continued(trained, image, expected, tmp_path):
    """SIGKILL at any moment leaves nothing that is mistaken for labels."""
    command = f"""
import sys
sys.path.insert(0, {str(os.path.dirname(os.path.dirname(__file__)))!r})
from support.tiny_training import register_tiny_model
register_tiny_model()
from ladderseg_fast.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = ["predict", str(trained), str(image), "--out", str(tmp_path / "out"), "--device", "cpu", *TILES]
    result = tmp_path / "out" / "big_labels.png"
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        for line in process.stderr:
            if "tiles" in line and not line.startswith("predict 1/"):
                process.send_signal(signal.SIGKILL)
        process.wait()
        assert not result.exists() or process.returncode == 0
        if process.returncode == 0:
            break
    assert main(arguments) == 0
    assert np.array_equal(np.asarray(Image.open(result)), expected)
