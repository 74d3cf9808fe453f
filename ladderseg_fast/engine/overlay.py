"""Labels drawn as pictures."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..atomic_file import atomic_write
from ..data import LabelSet, displayed, image_from_array
from ..data.display import Ranges

#: Share of the class colour in an overlay.
_OPACITY = 0.5
#: Level of zlib that makes a PNG of a photograph in a quarter of the usual time, a few percent larger.
_QUICK = 2


def overlay(image: np.ndarray, labels: np.ndarray, label_set: LabelSet, ranges: Ranges | None = None) -> np.ndarray:
    """Image [H, W, bands] as `displayed` shows it, with the class colours of `labels` [H, W] uint8 blended over it.

    `ranges` are those of `displayed`.
    """
    colours = label_set.colour_table()[labels]
    return np.round((1.0 - _OPACITY) * displayed(image, ranges) + _OPACITY * colours).astype(np.uint8)


def write_overlay(path: Path, image: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> None:
    """Writes the overlay as a PNG; an existing file is replaced only when the new one is complete."""
    write_png(path, image_from_array(overlay(image, labels, label_set)), _QUICK)


def write_colours(path: Path, labels: np.ndarray, label_set: LabelSet) -> None:
    """Writes the class colours of `labels` [H, W] uint8 as an RGB PNG, as write_overlay does."""
    write_png(path, image_from_array(label_set.colour_table()[labels]))


def write_labels(path: Path, labels: np.ndarray, label_set: LabelSet) -> None:
    """Writes `labels` [H, W] uint8 as labels_picture makes a PNG of them, as write_overlay does."""
    write_png(path, labels_picture(labels, label_set))


def labels_picture(labels: np.ndarray, label_set: LabelSet) -> Image.Image:
    """Palette picture of 8 bits of `labels` [H, W] uint8.

    Its pixel values are the class indices; viewers show the class colours.
    """
    picture = image_from_array(labels)
    # All 256 colours: with a shorter palette Pillow would store fewer bits per pixel.
    picture.putpalette(label_set.colour_table().tobytes())
    return picture


def write_png(path: Path, picture: Image.Image, compression: int = 6) -> None:
    """Writes `picture`, replacing an existing file only when the new one is complete.

    Args:
        compression: zlib's level, 0 to 9.
    """
    with atomic_write(path) as file:
        picture.save(file, format="PNG", compress_level=compression)
