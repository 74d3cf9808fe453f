"""Steps of an image and its labels on the way to the network."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .image_files import image_from_array
from .image_form import RGB, ImageForm, check_form
from .label_set import IGNORE_INDEX


@dataclass(frozen=True)
class Normalisation:
    """Computes (image / most - mean) / std for each band, where `most` is 2^bits - 1.

    Raises:
        ValueError: there are not as many means as deviations, or none or too many; one is not finite, or a deviation
            not positive; or `bits` is out of range.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bits: int = RGB.bits

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must have a number for each band, got {len(self.mean)} and {len(self.std)}")
        check_form(len(self.mean), self.bits)
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0.0:
            raise ValueError(f"mean must be finite, std finite and positive, got {list(self.mean)}, {list(self.std)}")

    @property
    def form(self) -> ImageForm:
        """Form of the images."""
        return ImageForm(len(self.mean), self.bits)

    def __call__(self, image: np.ndarray) -> Tensor:
        """Normalises `image` [H, W, bands], uint8 or uint16, to float32 [bands, H, W].

        Raises:
            ValueError: it has other bands.
        """
        form = self.form
        if image.shape[2:] != (form.bands,) or image.dtype != form.dtype:
            raise ValueError(f"expected an array [H, W, {form.bands}] {form.dtype}, got {image.shape} {image.dtype}")
        scale = 1.0 / (float(form.most) * np.asarray(self.std, np.float32))
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray((image * scale - shift).transpose(2, 0, 1)))


#: Statistics of ImageNet, which DenseNet backbones are commonly trained with.
IMAGENET_NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `image` [H, W, bands], uint8 or uint16, to `size` (height, width).

    Bilinearly, with antialiasing where it shrinks.
    """
    if image.shape[:2] == size or image.shape[2:] == (3,) and image.dtype == np.uint8:
        return _resize(image, size, Image.Resampling.BILINEAR)
    resized = np.empty((*size, image.shape[2]), image.dtype)
    # Each band by itself: of four, Pillow would take the last for transparency.
    for band in range(image.shape[2]):
        resized[..., band] = _resize_band(image[..., band], size)
    return resized


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `labels`, uint8 [H, W], to `size` (height, width); each pixel takes the label nearest to its centre."""
    return _resize(labels, size, Image.Resampling.NEAREST)


def flip_horizontally(array: np.ndarray) -> np.ndarray:
    """Exchanges left and right of `array`, [H, W, ...]."""
    return array[:, ::-1]


def crop_or_pad(
    image: np.ndarray, labels: np.ndarray, size: tuple[int, int], corner: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a window of `size` (height, width) out of `image` [H, W, bands] and `labels` [H, W].

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
    padded = np.empty((height, width, image.shape[2]), image.dtype)
    padded[:] = np.rint(image.mean(axis=(0, 1)))
    padded_labels = np.full(size, IGNORE_INDEX, np.uint8)
    rows, columns = part_labels.shape
    place = np.s_[max(-top, 0) : max(-top, 0) + rows, max(-left, 0) : max(-left, 0) + columns]
    padded[place], padded_labels[place] = part, part_labels
    return padded, padded_labels


def _resize_band(band: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `band` [H, W]; in float32 if it is uint16, as Pillow has no 16 bits to resize."""
    if band.dtype == np.uint8:
        return _resize(band, size, Image.Resampling.BILINEAR)
    return np.rint(_resize(band.astype(np.float32), size, Image.Resampling.BILINEAR))


def _resize(array: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if array.shape[:2] == size:
        return array
    height, width = size
    return np.asarray(image_from_array(array).resize((width, height), method))
