"""Form in which the server of a benchmark takes predictions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class ResultFormat:
    """Files that one benchmark takes: their places and their content."""

    path: Callable[[str], PurePosixPath]
    """Function from the name of a sample to the place of its file in the archive that is handed in."""
    image: Callable[[np.ndarray], Image.Image]
    """Function from classes [H, W] uint8, at the size of the image, to the picture to save as a PNG.

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
