"""Class labels at full resolution from scores at low resolution."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import kernels
from .checks import check_map
from .layout import pixel_major
from .operator import operator


def upsample_argmax(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Class labels at `size` from low-resolution `scores`, without full-resolution scores.

    Args:
        scores: [N, K, h, w], float32 or float64, on CUDA float16 or bfloat16 too, 1 <= K <= 256; channels_last is read
            without a copy.
        size: (H, W) of the labels, at least (1, 1).
    Returns:
        [N, H, W] uint8; ties go to the smaller class.
    Raises:
        ValueError: K out of range, an empty size, or not a 4-d tensor.
        TypeError: scores are of another dtype.
    Source: ALGORITHMS.md section 5, prediction.
    Equivalent to: ops.reference.upsample_argmax.
    """
    return _forward(scores, size)


@operator("ladderseg_fast::upsample_argmax", schema="(Tensor scores, SymInt[2] size) -> Tensor")
def _forward(scores: Tensor, size: Sequence[int]) -> Tensor:
    _check(scores, size)
    labels = torch.empty((scores.shape[0], *size), dtype=torch.uint8, device=scores.device)
    kernels.upsample_argmax(pixel_major(scores), labels)
    return labels


@_forward.register_fake
def _(scores: Tensor, size: Sequence[int]) -> Tensor:
    _check(scores, size)
    return torch.empty((scores.shape[0], *size), dtype=torch.uint8, device=scores.device)


def _check(scores: Tensor, size: Sequence[int]) -> None:
    check_map("scores", scores)
    if scores.shape[1] > 256:
        raise ValueError(f"scores must have at most 256 classes to fit uint8 labels, got {scores.shape[1]}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be (H, W), at least (1, 1), got {tuple(size)}")
    if min(scores.shape[2:]) < 1:
        raise ValueError(f"scores must have pixels, got shape {tuple(scores.shape)}")
