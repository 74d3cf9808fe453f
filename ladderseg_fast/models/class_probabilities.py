"""Class probabilities at full resolution from logits at low resolution."""

import torch
from torch import Tensor

from ..ops.backend import real_dtype
from ..ops.layout import empty, pixel_major
from ..ops.strips import strips
from ..ops.upsample import plain_upsample, upsample_forward

#: Numbers in the upsampled logits of one strip of rows. Two such maps exist at once: these, and their softmax.
_STRIP_VALUES = 2**20


def class_probabilities(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Softmax of `logits` [N, K, h, w], upsampled bilinearly to `size` (H, W): [N, K, H, W], contiguous.

    Float32; of logits in float64, float64. Upsampled logits exist for a strip of rows at a time.

    Equivalent to: plain_class_probabilities.
    """
    (images, classes), (height, width) = logits.shape[:2], size
    logits = pixel_major(logits.to(real_dtype(logits.dtype)))
    result = logits.new_empty((images, classes, height, width))
    for strip in strips(images, height, width, max_pixels=max(1, _STRIP_VALUES // classes), halo=0):
        part = result[strip.images, :, strip.rows]
        upsampled = empty(logits, len(part), classes, part.shape[2], width)
        upsample_forward(logits[strip.images], upsampled, strip.rows.start, height)
        part.copy_(torch.softmax(upsampled, dim=1))
    return result


def plain_class_probabilities(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The same in plain PyTorch."""
    return plain_upsample(logits.to(real_dtype(logits.dtype)), size).softmax(dim=1)
