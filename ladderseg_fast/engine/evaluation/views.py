"""Labels of one image at its own size, from one or several views that the network gets of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ... import ops
from ...data import Normalisation, resize_image
from ...models import SegmentationModel
from ...models.segmentation_model import evaluating
from .averaging import argmax_of_mean


@dataclass(frozen=True)
class Views:
    """The sizes, and orientations, in which the network sees an image.

    Raises:
        ValueError: there is no scale, or one that is not a positive number.
    """

    size: tuple[int, int] | None
    """(height, width) that the image is resized to before its scale; None: the image's own."""
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    """Every scale is also seen with left and right exchanged."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise ValueError("at least one scale is needed")
        for scale in self.scales:
            if not 0.0 < scale < math.inf:
                raise ValueError(f"a scale must be a positive number, got {scale}")

    def sizes(self, image_size: tuple[int, int], least: int) -> list[tuple[int, int]]:
        """(height, width) of each scale of an image of `image_size`; no side falls below `least`."""
        height, width = self.size or image_size
        return [(max(least, round(height * scale)), max(least, round(width * scale))) for scale in self.scales]


@torch.no_grad()
def label_image(model: SegmentationModel, image: np.ndarray, normalisation: Normalisation, views: Views) -> Tensor:
    """Labels [H, W] uint8 of `image` [H, W, bands], on the model's device.

    The logits, at about a quarter of a view's resolution, are upsampled bilinearly straight to the image's size. The
    softmax probabilities of several views are averaged there. BatchNorm uses its running statistics.

    Memory: one view at a time passes through the network. Only its logits stay, K * h/4 * w/4 numbers. Scores of all
    classes at full size exist for one strip of rows at a time, about `averaging.STRIP_VALUES` numbers; a single view
    needs not even these.
    """
    size = image.shape[:2]
    with evaluating(model):
        logits = list(_logits(model, image, normalisation, views))
    return ops.upsample_argmax(logits[0], size)[0] if len(logits) == 1 else argmax_of_mean(logits, size)[0]


def _logits(
    model: SegmentationModel, image: np.ndarray, normalisation: Normalisation, views: Views
) -> Iterator[Tensor]:
    """Logits [1, K, h/4, w/4] of each view, turned the right way round."""
    device = next(model.parameters()).device
    for size in views.sizes(image.shape[:2], model.min_size):
        pixels = normalisation(resize_image(image, size))[None].to(device)
        yield model(pixels).logits
        if views.flip:
            yield model(pixels.flip(3)).logits.flip(3)
