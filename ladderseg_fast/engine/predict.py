"""Labels of single images of any size."""

import numpy as np

from ..data import Normalisation, resize_image, resize_labels
from ..models import LadderDenseNet
from ..models.segmentation_model import MIN_IMAGE_SIZE


def prediction_size(image_size: tuple[int, int], trained_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) at which the network sees an image of `image_size` (height, width).

    The image keeps its proportions and gets as many pixels as the training images had, so that things
    appear about as large as in training; but no side falls below the network's minimum.
    """
    height, width = image_size
    scale = (trained_size[0] * trained_size[1] / (height * width)) ** 0.5
    scale = max(scale, MIN_IMAGE_SIZE / min(height, width))
    return max(MIN_IMAGE_SIZE, round(height * scale)), max(MIN_IMAGE_SIZE, round(width * scale))


def predict_image(
    model: LadderDenseNet, image: np.ndarray, normalisation: Normalisation, trained_size: tuple[int, int]
) -> np.ndarray:
    """Labels [H, W] uint8 of `image` [H, W, 3] uint8, which the network sees at `prediction_size`."""
    size = image.shape[:2]
    device = next(model.parameters()).device
    pixels = normalisation(resize_image(image, prediction_size(size, trained_size)))
    labels = model.predict(pixels[None].to(device))[0]
    return resize_labels(labels.cpu().numpy(), size)
