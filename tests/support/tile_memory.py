"""Predictions in tiles of images of any height, and the memory that they take."""

import ctypes
import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from support.window_files import picture
from torch import Tensor, nn

from ladderseg_fast.data import IMAGENET_NORMALISATION, RGB, LabelSet
from ladderseg_fast.engine.tiled import KINDS, TiledImage, TileSize, open_results, open_windows, predict_tiled

WIDTH = 1024
#: Of glibc's malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8

CLASSES = LabelSet(tuple("abcde"), ((0, 0, 0),) * 5)


class Patches(nn.Module):
    """Scores of patches of 4x4 pixels, one by one."""

    min_size, in_channels = 32, 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)

    def forward(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.conv(images))


def write(path: Path, height: int) -> None:
    """An image that repeats a picture of 256 rows."""
    if path.suffix == ".tif":
        tiles = iter([picture(3, size=(256, 256))] * (height // 256 * (WIDTH // 256)))
        importlib.import_module("tifffile").imwrite(
            path, tiles, shape=(height, WIDTH, 3), dtype="uint8", tile=(256, 256), photometric="rgb", compression="zlib"
        )
        return
    pixels = np.tile(picture(3, size=(256, WIDTH)), (height // 256, 1, 1))
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path, compress_level=1)


def label(path: Path, form: str) -> None:
    """Writes all that can be written beside the image."""
    with open_windows(path) as image:
        source = TiledImage(path, image, RGB)
        with open_results(lambda ending: path.with_name(ending), KINDS, form, source, CLASSES, {}) as results:
            predict_tiled(Patches(), image, results, IMAGENET_NORMALISATION, TileSize(256, 64))
            results.finish()


def peaks(paths: list[Path], form: str) -> list[int]:
    """Bytes of this process at the peak of labelling each of the images."""
    # Large blocks go back when they are freed, and threads share what is left: nothing lies about by chance.
    libc = ctypes.CDLL(None)
    assert libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16) and libc.mallopt(_M_ARENA_MAX, 1)
    found = []
    for path in paths:
        Path("/proc/self/clear_refs").write_text("5")  # begins a new record
        label(path, form)
        status = Path("/proc/self/status").read_text()
        found.append(int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024)
    return found
