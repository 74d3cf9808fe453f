"""Four bands of 16 bits through the commands: train, resume, evaluate, predict, report."""

import json
import re
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from support.data_trees import make_bands, make_folder, save_tiff
from support.ladder_models import TINY
from support.tiny_training import differences, signal_at

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import ImageFolder, ImageForm, band_statistics
from ladderseg_fast.engine import build_model, load_checkpoint, predict_image
from ladderseg_fast.engine.config_tables import read_config_file

CPU = torch.device("cpu")
FORM = ImageForm(4, 16)
#: Everything that changes images in a training.
CHANGES = ["data.scale=[0.8,1.3]", "data.crop=[64,64]", "data.brightness=0.2", "data.contrast=0.2"]
TRAIN = ["train", "--model", TINY, "--size", "64x72", "--steps", "2", "--device", "cpu", "--workers", "0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_bands(tmp_path_factory.mktemp("bands") / "data")


@pytest.fixture(scope="module")
def run(root) -> Path:
    assert main([*options(root), "--out", str(root.parent / "run")]) == 0
    return root.parent / "run"


def options(root: Path, *more: str) -> list[str]:
    changes = [word for change in CHANGES for word in ("--set", change)]
    return [*TRAIN, "--data", "folder", "--root", str(root), *changes, *more]


def training_set(root: Path) -> ImageFolder:
    data = ImageFolder(root, "train")
    data.expect(FORM)
    return data


def test_run_keeps_the_statistics(root, run):
    found = band_statistics(training_set(root)).normalisation
    checkpoint = load_checkpoint(run)
    assert checkpoint.normalisation == found
    assert checkpoint.state["features.conv0.weight"].shape[1] == 4
    written = read_config_file(run / "config.toml").values
    assert [written[f"data.{key}"] for key in ("bands", "bits", "mean", "std")] == [
        4,
        16,
        list(found.mean),
        list(found.std),
    ]
    start = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert start["config"]["data"]["mean"] == list(found.mean)


def test_resumed_training_is_the_same(root, run, tmp_path, monkeypatch, capsys):
    """Its statistics are those of the run, not computed again."""
    other = tmp_path / "run"
    with signal_at(monkeypatch, 1):
        assert main([*options(root), "--out", str(other)]) == 143
    capsys.readouterr()
    assert main(["train", "--resume", str(other)]) == 0
    assert "data.mean" not in capsys.readouterr().err
    assert differences(run, other) == []
    assert main(["train", "--resume", str(other), "--steps", "3", "--set", "data.std=[1,1,1,1]"]) == 2
    assert "data.std cannot change from [0.0" in capsys.readouterr().err


def test_evaluate(root, run, tmp_path, capsys):
    arguments = ["--data", "folder", "--root", str(root), "--worst", "1", "--out", str(tmp_path), "--flip"]
    assert main(["evaluate", str(run), *arguments]) == 0
    assert "pixel accuracy" in capsys.readouterr().out
    assert (tmp_path / "1_d.png").is_file()


def test_predict(root, run, tmp_path, capsys):
    image = root / "images/val/d.tif"
    out = tmp_path / "out"
    assert main(["predict", str(run), str(image), "--out", str(out), "--write", "labels,overlays"]) == 0
    checkpoint = load_checkpoint(run)
    expected = predict_image(
        build_model(checkpoint, CPU), tifffile.imread(image), checkpoint.normalisation, checkpoint.size
    )
    assert np.array_equal(np.asarray(Image.open(out / "d_labels.png")), expected)
    assert Image.open(out / "d_overlay.png").mode == "RGB"
    assert main(["report", str(run)]) == 0


def test_predict_in_tiles(root, run, tmp_path, capsys):
    """A TIFF and an array, in one tile, which sees what the network sees of the whole image."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (150, 200, 4), dtype=np.uint16)
    save_tiff(tmp_path / "one.tif", pixels)
    np.save(tmp_path / "two.npy", pixels)
    save_tiff(tmp_path / "eight.tif", np.ones((64, 64, 4), np.uint8))
    images = [str(tmp_path / name) for name in ("one.tif", "two.npy", "eight.tif")]
    assert main(["predict", str(run), images[0], "--size", "own", "--out", str(tmp_path / "whole")]) == 0
    assert main(["predict", str(run), *images, "--tile", "256", "--out", str(tmp_path / "tiled")]) == 2
    assert "eight.tif: 4 bands of 16 bits are expected, but the image has 8 bits" in capsys.readouterr().err
    expected = np.asarray(Image.open(tmp_path / "whole/one_labels.png"))
    for name in ("one", "two"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"tiled/{name}_labels.png")), expected)


@pytest.mark.parametrize("kind", ["unspecified", "unassalpha", "png"])
def test_tiles_of_images_with_transparency(root, run, tmp_path, kind):
    """The fourth band is one, whatever it is called."""
    pixels = tifffile.imread(root / "images/val/d.tif")
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    if kind == "png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[kind])
    for name, more in (("whole", ["--size", "own"]), ("tiles", ["--tile", "128"])):
        assert main(["predict", str(run), str(path), "--out", str(tmp_path / name), *more]) == 0
    whole, tiles = (np.asarray(Image.open(tmp_path / name / "a_labels.png")) for name in ("whole", "tiles"))
    assert np.array_equal(whole, tiles)


def test_images_that_do_not_fit_the_model_are_named(root, run, trained, tmp_path, capsys):
    """Of other bands, of other bits; and bands for a model of RGB."""
    save_tiff(tmp_path / "five.tif", np.ones((64, 64, 5), np.uint16))
    save_tiff(tmp_path / "eight.tif", np.ones((64, 64, 4), np.uint8))
    Image.new("RGB", (64, 64)).save(tmp_path / "rgb.png")
    images = [str(tmp_path / name) for name in ("five.tif", "eight.tif", "rgb.png")]
    assert main(["predict", str(run), *images, "--out", str(tmp_path / "out")]) == 2
    found = ("5 channels of 16 bits (grey", "4 channels of 8 bits (grey", "3 channels of 8 bits (RGB)")
    for line, image, what in zip(capsys.readouterr().err.splitlines(), images, found, strict=True):
        assert line.startswith(f"ladderseg: error: {image}: 4 bands of 16 bits are expected, but the image has {what}")
    assert main(["predict", str(trained), str(root / "images/val/d.tif"), "--out", str(tmp_path / "out")]) == 2
    assert "d.tif: the image has 16 bits per channel, grey" in capsys.readouterr().err
    folder = ["--data", "folder", "--root", str(make_folder(tmp_path / "folder", (64, 72)))]
    assert main(["evaluate", str(run), *folder]) == 2
    assert "d.png: 4 bands of 16 bits are expected, but the image has 3 channels of 8 bits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--bands", "5"], "5 bands of 16 bits are expected, but the image has 4 channels of 16 bits"),
        (["--set", "data.bits=8"], "4 bands of 8 bits are expected, but the image has 4 channels of 16 bits"),
        (
            ["--set", "data.mean=[0.1]", "--set", "data.std=[0.1]"],
            "1 band of 16 bits are expected, but the image has 4",
        ),
        (["--set", "data.mean=[0.1]"], "data.mean and data.std need each other"),
        (["--bands", "4", "--set", "data.hue=0.1"], "data.hue needs images of three bands, R, G and B, not of 4"),
        (["--set", "data.saturation=0.1"], "data.saturation needs images of three bands, R, G and B, not of 4"),
        (["--bands", "33"], "data.bands must be 1 to 32, got 33"),
        (["--set", "data.bits=17"], "data.bits must be 8 to 16, got 17"),
        (["--set", "data.mean=[0,0]", "--set", "data.std=[0,1]"], "data.mean, data.std: .*std finite and positive"),
    ],
)
def test_settings_that_do_not_fit(root, tmp_path, capsys, changes, message):
    assert main([*options(root, *changes), "--out", str(tmp_path / "run")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_band_of_one_value_is_refused_at_the_start(tmp_path, capsys):
    root = make_bands(tmp_path / "data")
    for path in root.glob("images/*/*.tif"):
        save_tiff(path, np.full((64, 72, 4), 9, np.uint16))
    assert main([*options(root), "--out", str(tmp_path / "run")]) == 2
    assert "band 0 has the value 9 in every pixel" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_weights_of_rgb_are_adapted(root, trained, tmp_path, capsys):
    """Those of another run; and the start says so."""
    run = tmp_path / "run"
    assert main([*options(root, "--init-from", str(trained), "--steps", "1", "--lr", "1e-30"), "--out", str(run)]) == 0
    said = (
        r"took features, .*; new: head .*; the first convolution's weights are those of R, G, B, R, \.\.\. for 4 bands"
    )
    assert re.search(said, capsys.readouterr().err)
    rgb, bands = (load_checkpoint(path).state["features.conv0.weight"] for path in (trained, run))
    torch.testing.assert_close(bands, rgb[:, [0, 1, 2, 0]] * 0.75)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (32, "uint16")])
def test_other_forms(tmp_path, capsys, bands, dtype):
    """The start says what was computed of them."""
    root, run = make_bands(tmp_path / "data", (64, 72), bands, dtype), tmp_path / "run"
    more = ["--bands", "1"] if (bands, dtype) == (1, "uint8") else []
    assert main([*options(root, *more), "--out", str(run)]) == 0
    form = ImageForm(bands, 8 * np.dtype(dtype).itemsize)
    said = rf"data.mean and data.std are not set: those of the {form} of 3 training images are 0\.\d+"
    assert re.search(said, capsys.readouterr().err)
    assert load_checkpoint(run).normalisation.form == form
    assert main(["predict", str(run), str(root / "images/val"), "--out", str(tmp_path), "--write", "overlays"]) == 0
