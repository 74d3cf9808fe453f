"""Probabilities, and most probable class, of one or several predictions together, computed in strips of rows."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...ops.strips import Strip, strips

#: Numbers in the class scores of one strip. Three such maps exist at once: upsampled scores, probabilities, their sum.
STRIP_VALUES = 2**21


def argmax_of_mean(scores: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Class labels at `size` where the softmax probabilities of all `scores` are averaged.

    Args:
        scores: [N, K, h, w] each, of any heights and widths; K at most 256.
        size: (H, W) of the labels. Scores are upsampled bilinearly to it, before the softmax.

    Returns:
        Labels [N, H, W] uint8.

    Equivalent to: the argmax of the sum of F.interpolate(s, size, mode="bilinear").softmax(1) over `scores`.
    """
    labels = torch.empty((len(scores[0]), *size), dtype=torch.uint8, device=scores[0].device)
    for strip, total in _strips_of_sum(scores, size):
        labels[strip.images, strip.rows] = total.argmax(1).to(torch.uint8)
    return labels


def mean_probabilities(scores: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Mean of the softmax probabilities of all `scores`, upsampled as argmax_of_mean does: [N, K, H, W] float16."""
    images, classes = scores[0].shape[:2]
    mean = torch.empty((images, classes, *size), dtype=torch.float16, device=scores[0].device)
    for strip, total in _strips_of_sum(scores, size):
        mean[strip.images, :, strip.rows] = total / len(scores)
    return mean


def _strips_of_sum(scores: Sequence[Tensor], size: tuple[int, int]) -> Iterator[tuple[Strip, Tensor]]:
    """Pieces of the images, and the sum [n, K, rows, W] of the probabilities there."""
    height, width = size
    images, classes = scores[0].shape[:2]
    for strip in strips(images, height, width, max_pixels=max(1, STRIP_VALUES // classes), halo=0):
        total = _upsampled_rows(scores[0][strip.images], size, strip.rows).softmax(1)
        for more in scores[1:]:
            total += _upsampled_rows(more[strip.images], size, strip.rows).softmax(1)
        yield strip, total


def _upsampled_rows(scores: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    """Rows `rows` of `scores` [N, K, h, w] upsampled bilinearly to `size`: [N, K, rows, W].

    Pixel centres as in F.interpolate with align_corners=False: output row y is at (y + 1/2) h / H - 1/2 of the input.
    """
    height, width = size
    last = scores.shape[2] - 1
    y = torch.arange(rows.start, rows.stop, device=scores.device, dtype=torch.float64)
    source = ((y + 0.5) * (scores.shape[2] / height) - 0.5).clamp(0, last)
    upper = source.floor().long()
    lower = (upper + 1).clamp(max=last)
    share = (source - upper).to(scores.dtype)[:, None]
    between = torch.lerp(scores[:, :, upper], scores[:, :, lower], share)
    return interpolate(between, (len(y), width), mode="bilinear", align_corners=False)
