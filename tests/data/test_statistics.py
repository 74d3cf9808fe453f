"""Mean and deviation of the bands against numpy's, and the command that prints them."""

from pathlib import Path

import numpy as np
import pytest
from support.data_trees import make_bands, make_folder, save_tiff

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import ImageFolder, StreetScenes, band_statistics, find_form
from ladderseg_fast.data import statistics as module
from ladderseg_fast.engine.config_tables import Layer, build_config, read_config_file

tifffile = pytest.importorskip("tifffile")


def opened(root: Path) -> ImageFolder:
    data = ImageFolder(root, "train")
    data.expect(find_form(data))
    return data


def expected(data: ImageFolder) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.concatenate([data.image(index).reshape(-1, data.form.bands) for index in range(len(data))])
    shares = pixels.astype(np.float64) / data.form.most
    return shares.mean(axis=0), shares.std(axis=0)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint16"), (5, "uint16"), (4, "uint8")])
def test_statistics_are_numpys(tmp_path, monkeypatch, bands, dtype):
    """Of images of different sizes, in parts of a few pixels, by any number of processes."""
    data = opened(make_bands(tmp_path, (24, 32), bands, dtype))
    save_tiff(data.files(1)[0], np.full((7, 9, bands), np.iinfo(dtype).max, dtype))
    monkeypatch.setattr(module, "_AT_ONCE", 100)
    found = band_statistics(data)
    mean, std = expected(data)
    np.testing.assert_allclose(found.normalisation.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.normalisation.std, std, rtol=1e-12)
    assert found.normalisation.form == data.form
    assert band_statistics(data, workers=2) == found


def test_statistics_of_rgb(tmp_path):
    data = opened(make_folder(tmp_path))
    found = band_statistics(data).normalisation
    np.testing.assert_allclose((found.mean, found.std), expected(data), rtol=1e-12)


def test_large_values_lose_nothing(tmp_path):
    """In float32, or by the difference of means of squares in float64, nothing of this deviation would be left."""
    root = make_bands(tmp_path, (24, 32), 1)
    data = opened(root)
    for index in range(3):
        pixels = np.full((24, 32, 1), 65535, np.uint16)
        pixels[0, 0] = 65534
        save_tiff(data.files(index)[0], pixels)
    share = 1 / (24 * 32)
    assert band_statistics(data).normalisation.std[0] == pytest.approx((share * (1 - share)) ** 0.5 / 65535, rel=1e-15)


def test_band_of_one_value(tmp_path):
    data = opened(make_bands(tmp_path))
    for index in range(3):
        pixels = data.image(index).copy()
        pixels[..., 2] = 17
        save_tiff(data.files(index)[0], pixels)
    with pytest.raises(ValueError, match="band 2 has the value 17 in every pixel of every image"):
        band_statistics(data)


def save_with_no_data(path: Path, pixels: np.ndarray, value: str) -> None:
    tags = [(42113, "s", 0, value, True)]
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig", extratags=tags)


@pytest.mark.parametrize("value", ["0", "0.0", "65535", "-9999", "nan", "none"])
def test_pixels_of_no_data_are_left_out(tmp_path, value, capsys):
    """GDAL's value counts where only some bands have it, and so does one that no band can have."""
    data = opened(make_bands(tmp_path, (24, 32), 4))
    nothing = {"0": 0, "0.0": 0, "65535": 65535}.get(value)
    kept = []
    for index in range(len(data)):
        pixels = data.image(index).copy()
        pixels[:5] = pixels[5, :, 1] = nothing or 0
        save_with_no_data(data.files(index)[0], pixels, value)
        kept.append(pixels[0 if nothing is None else 5 :].reshape(-1, 4) / 65535)
    found = band_statistics(data)
    assert (found.pixels, found.no_data) == (len(np.concatenate(kept)), 0 if nothing is None else 3 * 5 * 32)
    np.testing.assert_allclose(found.normalisation.mean, np.concatenate(kept).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.normalisation.std, np.concatenate(kept).std(axis=0), rtol=1e-12)
    assert main(["data", "statistics", "--data", "folder", "--root", str(tmp_path)]) == 0
    assert ("train, without 480 pixels of no data\n" in capsys.readouterr().out) == (nothing is not None)


def test_images_without_data(tmp_path):
    data = opened(make_bands(tmp_path, (24, 32), 4))
    for index in range(len(data)):
        save_with_no_data(data.files(index)[0], np.zeros((24, 32, 4), np.uint16), "0")
    with pytest.raises(ValueError, match="no pixel of any image has data"):
        band_statistics(data)


def test_command(tmp_path, capsys):
    """Its output is a file of configuration."""
    root = make_bands(tmp_path / "data")
    assert main(["data", "statistics", "--data", "folder", "--root", str(root)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# 4 bands of 16 bits, measured in 3 images of folder train\n[data]\n")
    (tmp_path / "bands.toml").write_text(text)
    config = build_config([read_config_file(tmp_path / "bands.toml"), Layer("test", {})])
    assert config.data.normalisation == band_statistics(opened(root)).normalisation


def test_check_knows_bands(tmp_path, capsys):
    root = make_bands(tmp_path)
    arguments = ["data", "check", "--data", "folder", "--root", str(root)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("folder: all images should have 4 bands of 16 bits\n")
    assert main([*arguments, "--bands", "5"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    assert all("5 bands of 16 bits are expected, but the image has 4 channels of 16 bits" in line for line in errors)


def test_statistics_of_images_that_are_in_no_files():
    data = StreetScenes(2, (64, 64))
    found = band_statistics(data).normalisation
    shares = np.stack([data[index].image for index in range(2)]).reshape(-1, 3) / 255.0
    np.testing.assert_allclose(found.mean, shares.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, shares.std(axis=0), rtol=1e-12)
