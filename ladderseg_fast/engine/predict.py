"""Labels of single images of any size."""

from typing import Final, Literal

import numpy as np

from ..data import Normalisation
from ..models import SegmentationModel
from .evaluation import Views, label_image

#: Stands for a size: every image is seen at its own.
OWN_SIZE: Final = "own"
SizeOrOwn = tuple[int, int] | Literal["own"]


def prediction_size(image_size: tuple[int, int], trained_size: tuple[int, int], least: int) -> tuple[int, int]:
    """Size (height, width) at which the network sees an image of `image_size` (height, width).

    The image keeps its proportions and gets as many pixels as the training images had, so things appear about as large
    as in training; but no side falls below `least`, the network's minimum.
    """
    height, width = image_size
    scale = (trained_size[0] * trained_size[1] / (height * width)) ** 0.5
    scale = max(scale, least / min(height, width))
    return max(least, round(height * scale)), max(least, round(width * scale))


def predict_image(
    model: SegmentationModel,
    image: np.ndarray,
    normalisation: Normalisation,
    trained_size: tuple[int, int],
    size: SizeOrOwn | None = None,
) -> np.ndarray:
    """Labels [H, W] uint8 of `image` [H, W, 3] uint8.

    Args:
        size: (height, width) at which the network sees it; OWN_SIZE: its own; None: `prediction_size`.
    """
    if size is None:
        size = prediction_size(image.shape[:2], trained_size, model.min_size)
    return label_image(model, image, normalisation, Views(None if isinstance(size, str) else size)).cpu().numpy()
