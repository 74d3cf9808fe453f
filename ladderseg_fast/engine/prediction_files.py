"""Files that a prediction is written to: label images, overlays, colour maps, probabilities."""

from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..atomic_file import atomic_write
from ..data import LabelSet
from ..models.weights import MissingPackageError
from .overlay import write_colours, write_labels, write_overlay
from .predict import LabelledImage


class FileKind(NamedTuple):
    """One kind of files."""

    ending: str
    """End of its files' names."""
    about: str
    """Words about what is in it."""
    write: Callable[[Path, LabelledImage[Any], LabelSet], None]
    coloured: bool = False
    """Whether it shows classes as colours, so that a legend is of use."""
    pixels: bool = False
    """Whether it needs the image itself."""
    probabilities: bool = False
    """Whether it needs the probabilities of all classes."""


def write_npz(path: Path, image: LabelledImage[Any], label_set: LabelSet) -> None:
    """Writes `probabilities` [K, H, W] float16 and `classes`, their names, into a NumPy archive."""
    with atomic_write(path) as file:
        np.savez(file, probabilities=_kept(image.probabilities), classes=np.array(label_set.names))


def write_tiff(path: Path, image: LabelledImage[Any], label_set: LabelSet) -> None:
    """Writes the probabilities as a TIFF of K planes of 32 bits, with the names of the classes in its description.

    The description is JSON: axes "CYX", and the list `classes`.
    """
    planes = _kept(image.probabilities).astype(np.float32)
    description = {"axes": "CYX", "classes": list(label_set.names)}
    with atomic_write(path) as file:
        _tifffile().imwrite(
            file, planes, photometric="minisblack", planarconfig="separate", metadata=description, software=False
        )


#: By name, in the order in which the files of an image are written and listed.
FILE_KINDS = {
    "labels": FileKind(
        "_labels.png",
        "class numbers, 8 bits with a palette",
        lambda path, image, label_set: write_labels(path, image.labels, label_set),
    ),
    "overlays": FileKind(
        "_overlay.png",
        "class colours over the image",
        lambda path, image, label_set: write_overlay(path, _kept(image.pixels), image.labels, label_set),
        coloured=True,
        pixels=True,
    ),
    "colours": FileKind(
        "_colours.png",
        "class colours alone, RGB",
        lambda path, image, label_set: write_colours(path, image.labels, label_set),
        coloured=True,
    ),
    "probabilities": FileKind(
        "_probabilities.npz", "probabilities [K, H, W] of all classes, for NumPy", write_npz, probabilities=True
    ),
    "probabilities-tiff": FileKind(
        "_probabilities.tif", "the same as a TIFF of K planes", write_tiff, probabilities=True
    ),
}


def check_packages(kinds: Collection[str]) -> None:
    """Raises MissingPackageError if one of `kinds`, names of FILE_KINDS, needs a package that is not installed."""
    if "probabilities-tiff" in kinds:
        _tifffile()


def _tifffile() -> ModuleType:
    try:
        import tifffile
    except ImportError as error:
        raise MissingPackageError(
            'writing a TIFF needs the package tifffile: pip install "ladderseg_fast[tiff]"'
        ) from error
    return tifffile


def _kept(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise ValueError("the image was labelled without what this file needs: its pixels, or its probabilities")
    return array
