"""Most probable class of several predictions together, computed in strips of rows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...ops.strips import strips

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
    height, width = size
    images, classes = scores[0].shape[:2]
    labels = torch.empty((images, height, width), dtype=torch.uint8, device=scores[0].device)
    for strip in strips(images, height, width, max_pixels=max(1, STRIP_VALUES // classes), halo=0):
        total = _upsampled_rows(scores[0][strip.images], size, strip.rows).softmax(1)
        for more in scores[1:]:
            total += _upsampled_rows(more[strip.images], size, strip.rows).softmax(1)
        labels[strip.images, strip.rows] = total.argmax(1).to(torch.uint8)
    return labels


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
