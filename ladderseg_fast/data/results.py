"""Predictions in the form that the benchmarks' servers take."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from .cityscapes_labels import CITYSCAPES_TRAINED
from .image_files import image_from_array
from .voc import VOC_LABELS, voc_colour


@dataclass(frozen=True)
class ResultFormat:
    """How one benchmark wants to be told the labels of an image."""

    path: Callable[[str], PurePosixPath]
    """From a sample's name to its file's place in the archive that is handed in."""
    image: Callable[[np.ndarray], Image.Image]
    """From classes [H, W] uint8, at the image's own size, to the picture to save as a PNG.

    Raises:
        ValueError: not an uint8 array [H, W], or a value that is not a class.
    """


def cityscapes_result_path(name: str) -> PurePosixPath:
    """CITY_SEQUENCE_FRAME_labelIds.png: the server looks for CITY_SEQUENCE_FRAME*.png, one a frame."""
    return PurePosixPath(f"{name}_labelIds.png")


def cityscapes_result(classes: np.ndarray) -> Image.Image:
    """8-bit grey picture of label ids (7 is road, ...), not of classes."""
    ids = np.array([label.id for label in CITYSCAPES_TRAINED], np.uint8)
    return image_from_array(ids[_checked(classes, len(ids))])


def voc_result_path(name: str) -> PurePosixPath:
    """The place in VOC's archive. comp6 allows any images in training; comp5, VOC's own only."""
    return PurePosixPath("results", "VOC2012", "Segmentation", "comp6_test_cls", f"{name}.png")


def voc_result(classes: np.ndarray) -> Image.Image:
    """8-bit picture of classes with VOC's palette of 256 colours."""
    picture = image_from_array(_checked(classes, len(VOC_LABELS)))
    picture.putpalette([value for k in range(256) for value in voc_colour(k)])
    return picture


#: Formats by the kind of data set that they belong to, as in `open_data_set`.
RESULT_FORMATS = {
    "cityscapes": ResultFormat(cityscapes_result_path, cityscapes_result),
    "voc": ResultFormat(voc_result_path, voc_result),
}


def _checked(classes: np.ndarray, count: int) -> np.ndarray:
    if classes.dtype != np.uint8 or classes.ndim != 2:
        raise ValueError(f"classes must be an uint8 array [H, W], got {classes.dtype} {classes.shape}")
    highest = int(classes.max(initial=0))
    if highest >= count:
        raise ValueError(f"classes must be 0 to {count - 1}, got {highest}")
    return classes
