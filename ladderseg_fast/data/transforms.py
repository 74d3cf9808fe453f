"""Steps of an image and its labels on the way to the network."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .image_files import image_from_array
from .label_set import IGNORE_INDEX


@dataclass(frozen=True)
class Normalisation:
    """Computes (image / 255 - mean) / std for each of the channels R, G, B."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: np.ndarray) -> Tensor:
        """Normalises `image`, uint8 [H, W, 3], to float32 [3, H, W]."""
        scale = 1.0 / (255.0 * np.asarray(self.std, np.float32))
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray((image * scale - shift).transpose(2, 0, 1)))


#: Statistics of ImageNet, which DenseNet backbones are commonly trained with.
IMAGENET_NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `image`, uint8 [H, W, 3], to `size` (height, width), bilinearly, with antialiasing where it shrinks."""
    return _resize(image, size, Image.Resampling.BILINEAR)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `labels`, uint8 [H, W], to `size` (height, width); each pixel takes the label nearest to its centre."""
    return _resize(labels, size, Image.Resampling.NEAREST)


def flip_horizontally(array: np.ndarray) -> np.ndarray:
    """Exchanges left and right of `array`, [H, W, ...]."""
    return array[:, ::-1]


def crop_or_pad(
    image: np.ndarray, labels: np.ndarray, size: tuple[int, int], corner: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a window of `size` (height, width) out of `image` [H, W, 3] and `labels` [H, W], both uint8.

    `corner` says which share of the rows and columns that do not fit lies above the window and to its left, from 0
    (none) to 1 (all). If the window is larger, it says the same of the padding, which is the mean colour of the image,
    and IGNORE_INDEX in the labels.
    """
    if labels.shape == size:
        return image, labels
    height, width = size
    # Of the window's top left pixel, in the image: negative where there is padding.
    top, left = (round((have - want) * share) for have, want, share in zip(labels.shape, size, corner, strict=True))
    window = np.s_[max(top, 0) : top + height, max(left, 0) : left + width]
    part, part_labels = image[window], labels[window]
    if part_labels.shape == size:
        return part, part_labels
    padded = np.empty((height, width, 3), np.uint8)
    padded[:] = np.rint(image.mean(axis=(0, 1)))
    padded_labels = np.full(size, IGNORE_INDEX, np.uint8)
    rows, columns = part_labels.shape
    place = np.s_[max(-top, 0) : max(-top, 0) + rows, max(-left, 0) : max(-left, 0) + columns]
    padded[place], padded_labels[place] = part, part_labels
    return padded, padded_labels


def _resize(array: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if array.shape[:2] == size:
        return array
    height, width = size
    return np.asarray(image_from_array(array).resize((width, height), method))
