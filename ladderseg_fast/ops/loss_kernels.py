"""The kernels of losses of upsampled logits."""

import torch
from torch import Tensor

from .. import _core
from .backend import launch
from .kernel import kernel
from .pointers import feature_map, memory

_LABEL_TYPES = {
    torch.uint8: _core.LabelType.uint8,
    torch.int32: _core.LabelType.int32,
    torch.int64: _core.LabelType.int64,
}


def _operations(logits: Tensor, labels: Tensor, **_: object) -> float:
    """Operations, mostly an exponential per class and label."""
    return 50.0 * labels.numel() * logits.shape[1]


@kernel("upsample_cross_entropy", "cross_entropy", _operations)
def loss_and_gradient(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_index: int,
    grad_logits: Tensor | None,
    mean: bool = True,
    label_smoothing: float = 0.0,
    align_corners: bool = False,
    pixel_weights: Tensor | None = None,
    grad_class_sums: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scalars: the loss (float64), and the index of a pixel whose label is invalid, or -1 (int64).

    Fills grad_logits if given.

    logits [N, K, h, w]; labels [N, H, W], contiguous, uint8, int32 or int64; the others contiguous and of the
    real_dtype of logits: class_weights [K]; pixel_weights [N, H, W] or [1]; grad_class_sums [N, 3, K], without `mean`.
    """
    loss = torch.empty((), dtype=torch.float64, device=logits.device)
    invalid_pixel = torch.empty((), dtype=torch.int64, device=logits.device)
    launch(
        _core.upsample_cross_entropy,
        logits,
        *_scores(logits, labels, class_weights, ignore_index, label_smoothing, align_corners),
        mean,
        memory(pixel_weights),
        pixel_weights is not None and pixel_weights.dim() == 1,
        memory(grad_class_sums),
        memory(loss),
        feature_map(grad_logits),
        memory(invalid_pixel),
    )
    return loss, invalid_pixel


def _forward_operations(logits: Tensor, labels: Tensor, **_: object) -> float:
    """Operations, mostly an exponential per class and label."""
    return 40.0 * labels.numel() * logits.shape[1]


@kernel("upsample_pixel_losses", "cross_entropy", _forward_operations)
def write_pixel_losses(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_index: int,
    losses: Tensor | None,
    class_sums: Tensor | None,
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> tuple[Tensor, Tensor]:
    """Sums [2] of the losses and of their weights (float64), and the index of a pixel with an invalid label, or -1.

    Fills losses [N, H, W], of the real_dtype of logits, and class_sums [N, 3, K], float64, if given. The others are
    those of loss_and_gradient.
    """
    loss_sums = torch.empty(2, dtype=torch.float64, device=logits.device)
    invalid_pixel = torch.empty((), dtype=torch.int64, device=logits.device)
    launch(
        _core.upsample_pixel_losses,
        logits,
        *_scores(logits, labels, class_weights, ignore_index, label_smoothing, align_corners),
        memory(losses),
        memory(loss_sums),
        memory(class_sums),
        memory(invalid_pixel),
    )
    return loss_sums, invalid_pixel


def _scores(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    align_corners: bool,
) -> tuple[object, ...]:
    """The core's LabelledScores: pixel-major logits, readable labels, contiguous class weights."""
    of_labels = memory(labels), _LABEL_TYPES[labels.dtype], *labels.shape[1:]
    return feature_map(logits), *of_labels, align_corners, memory(class_weights), ignore_index, label_smoothing
