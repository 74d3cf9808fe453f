"""Class labels at full resolution from scores at low resolution."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _core
from .backend import launch
from .checks import check_map
from .kernel import kernel
from .layout import pixel_major
from .pointers import feature_map, memory
from .registration import operator, reference_of
from .upsample import plain_upsample


def upsample_argmax(scores: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Class labels at `size` from low-resolution `scores`, without full-resolution scores.

    Args:
        scores: [N, K, h, w], float32, float64, bfloat16 or (CUDA) float16, 1 <= K <= 256; channels_last is read
            without a copy.
        size: (H, W) of the labels, at least (1, 1).
        align_corners: as in torch.nn.functional.interpolate.
    Returns:
        [N, H, W] uint8; ties go to the smaller class.
    Raises:
        ValueError: K is out of range, the size is empty, or scores is not a 4-d tensor.
        TypeError: scores have another dtype.
    Source: ALGORITHMS.md section 5, prediction.
    Equivalent to: ops.reference.upsample_argmax.
    """
    return _forward(scores, size, align_corners)


@reference_of(upsample_argmax)
def _plain(scores: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Best class [N, H, W] uint8 of scores [N, K, h, w], upsampled to size (H, W); ties go to the smaller class."""
    return plain_upsample(scores, size, align_corners).argmax(dim=1).to(torch.uint8)


@kernel("upsample_argmax")
def write_labels(scores: Tensor, labels: Tensor, align_corners: bool = False) -> None:
    """Writes labels [N, H, W] uint8, contiguous, from scores [N, K, h, w]."""
    launch(_core.upsample_argmax, scores, feature_map(scores), memory(labels), *labels.shape[1:], align_corners)


def upsample_argmax_forward(scores: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """The same as upsample_argmax, but no operator of torch: for scores that kernels have written.

    The first call of an operator imports torch's compiler, which takes a second and 75 MB.
    """
    _check(scores, size)
    labels = torch.empty((scores.shape[0], *size), dtype=torch.uint8, device=scores.device)
    write_labels(pixel_major(scores), labels, align_corners)
    return labels


_forward = operator("upsample_argmax", schema="(Tensor scores, SymInt[2] size, bool align_corners=False) -> Tensor")(
    upsample_argmax_forward
)


@_forward.register_fake
def _(scores: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    _check(scores, size)
    return torch.empty((scores.shape[0], *size), dtype=torch.uint8, device=scores.device)


def _check(scores: Tensor, size: Sequence[int]) -> None:
    check_map("scores", scores)
    if scores.shape[1] > 256:
        raise ValueError(f"scores must have at most 256 classes to fit uint8 labels, got {scores.shape[1]}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be (H, W), at least (1, 1), got {tuple(size)}")
    if any(side < 1 for side in scores.shape[2:]):  # min would compare sizes in graphs
        raise ValueError(f"scores must have pixels, got shape {tuple(scores.shape)}")
