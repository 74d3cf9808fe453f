"""How a benchmark's server takes predictions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image


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


def check_result(classes: np.ndarray, count: int) -> None:
    """Raises ValueError unless `classes` is an uint8 array [H, W] of the classes 0 to `count` - 1."""
    if classes.dtype != np.uint8 or classes.ndim != 2:
        raise ValueError(f"classes must be an uint8 array [H, W], got {classes.dtype} {classes.shape}")
    highest = int(classes.max(initial=0))
    if highest >= count:
        raise ValueError(f"classes must be 0 to {count - 1}, got {highest}")
