"""Memory of a prediction in tiles: the same for any height of the image."""

import re
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.window_files import picture
from torch import nn

from ladderseg_fast.data import IMAGENET_NORMALISATION, RGB, LabelSet
from ladderseg_fast.engine.tiled import KINDS, TiledImage, TileSize, open_results, open_windows, predict_tiled

WIDTH, LOW, TALL = 1024, 2048, 8192
CLASSES = LabelSet(tuple("abcde"), ((0, 0, 0),) * 5)


class Patches(nn.Module):
    """Scores of patches of 4x4 pixels, one by one."""

    min_size, in_channels = 32, 3

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)

    def forward(self, images):
        return SimpleNamespace(logits=self.conv(images))


def write(path, height):
    """An image that repeats a picture of 256 rows."""
    if path.suffix == ".tif":
        tifffile = pytest.importorskip("tifffile")
        tiles = iter([picture(3, size=(256, 256))] * (height // 256 * (WIDTH // 256)))
        tifffile.imwrite(
            path, tiles, shape=(height, WIDTH, 3), dtype="uint8", tile=(256, 256), photometric="rgb", compression="zlib"
        )
        return
    pixels = np.tile(picture(3, size=(256, WIDTH)), (height // 256, 1, 1))
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path, compress_level=1)


def peak_of(path, format):
    """Bytes of this process at the peak of labelling `path` with all that can be written."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        clear.write_text("5")
    except OSError:
        pytest.skip("the system does not let a process reset the record of its peak")

    with open_windows(path) as image:
        source = TiledImage(path, image, RGB)
        with open_results(lambda ending: path.with_name(ending), KINDS, format, source, CLASSES, {}) as results:
            predict_tiled(Patches(), image, results, IMAGENET_NORMALISATION, TileSize(256, 64))
            results.finish()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)[1]) * 1024


@pytest.mark.parametrize(("kind", "format"), [("npy", "npy"), ("png", "png"), ("tif", "tiff")])
def test_memory_does_not_grow_with_the_height(tmp_path, kind, format):
    write(tmp_path / f"once.{kind}", 256)
    write(tmp_path / f"low.{kind}", LOW)
    write(tmp_path / f"tall.{kind}", TALL)
    peak_of(tmp_path / f"once.{kind}", format)  # loads what is loaded once
    low, tall = (peak_of(tmp_path / f"{name}.{kind}", format) for name in ("low", "tall"))
    assert tall < low + WIDTH * TALL, f"{low / 2**20:.1f} and {tall / 2**20:.1f} MiB"  # a third of the image


def test_no_thread_stays(tmp_path):
    write(tmp_path / "low.npy", LOW)
    before = threading.active_count()
    peak_of(tmp_path / "low.npy", "png")
    assert threading.active_count() == before
