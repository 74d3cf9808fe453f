"""What happens to an image and its labels on the way to the network."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .image_files import image_from_array


@dataclass(frozen=True)
class Normalisation:
    """(image / 255 - mean) / std for each of the channels R, G, B."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] -> float32 [3, H, W]."""
        scale = 1.0 / (255.0 * np.asarray(self.std, np.float32))
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray((image * scale - shift).transpose(2, 0, 1)))


#: Statistics of ImageNet, which DenseNet backbones are commonly trained with.
IMAGENET_NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] at `size` (height, width), bilinear, with antialiasing where it shrinks."""
    return _resize(image, size, Image.Resampling.BILINEAR)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] at `size` (height, width); each pixel takes the label nearest to its centre."""
    return _resize(labels, size, Image.Resampling.NEAREST)


def flip_horizontally(array: np.ndarray) -> np.ndarray:
    """[H, W, ...] with left and right exchanged."""
    return array[:, ::-1]


def _resize(array: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if array.shape[:2] == size:
        return array
    height, width = size
    return np.asarray(image_from_array(array).resize((width, height), method))
