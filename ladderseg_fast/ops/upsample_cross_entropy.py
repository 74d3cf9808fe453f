"""Cross entropy of bilinearly upsampled logits, without full-resolution logits."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from . import deferred_checks
from .checks import check_labels, check_weights_of_classes
from .labelled_scores import (
    check_label_smoothing,
    check_labelled_scores,
    invalid_label,
    readable,
    scores_and_weights,
)
from .layout import empty, pixel_major
from .loss_kernels import loss_and_gradient
from .registration import no_double_backward, operator, reference_of
from .upsample import plain_upsample
from .upsample_pixel_losses import pixel_losses

Reduction = Literal["mean", "sum", "none"]


def upsample_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> Tensor:
    """Cross entropy of `logits`, upsampled bilinearly to the size of `labels`, over the counted pixels.

    With reduction "mean" or "sum" the gradient is computed here: labels and class weights may change before backward.
    With "none" backward computes it, from the logits.

    Args:
        logits: [N, K, h, w], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        labels: [N, H, W], any integer dtype; each in [0, K) or equal to `ignore_index`. They may be larger or smaller
            than the logits, in any ratio.
        class_weights: [K] or None; as in torch.nn.functional.cross_entropy: they weight the losses and the mean. Any
            integer or floating dtype; converted to float32 beside 16-bit logits, else to their dtype. Not
            differentiable.
        ignore_index: label of pixels that do not count.
        reduction: "mean" over the counted pixels, weighted; "sum"; or "none" for the loss of every pixel, 0 where it
            is ignored.
        label_smoothing: share in [0, 1] of the target that all classes have in common, as in F.cross_entropy.
        align_corners: as in torch.nn.functional.interpolate.
    Returns:
        Scalar, or [N, H, W] with reduction "none", of the dtype of logits (float32 in a region of torch.autocast). The
        mean is 0, with a gradient of 0, if no pixel counts or all have weight 0 (F.cross_entropy gives NaN then). On
        CUDA the scalar is NaN if a label is out of range.
    Raises:
        ValueError: a label is out of range, a shape or device does not fit, or another argument has a value that it
            cannot have. On CUDA a later call reports the label, because waiting for the device would cost time.
        TypeError: a dtype does not fit.
        RuntimeError: class_weights require a gradient.
    Source: ALGORITHMS.md section 5, loss.
    Equivalent to: ops.reference.upsample_cross_entropy. Only with reduction "none", a pixel whose incoming gradient is
        0 adds 0 to the gradient even if its logits are NaN.
    """
    _check_reduction(reduction)
    logits, class_weights = scores_and_weights("upsample_cross_entropy", logits, labels, class_weights, label_smoothing)
    if reduction == "none":
        losses = pixel_losses(logits, labels, class_weights, ignore_index, label_smoothing, align_corners)
        return losses.to(logits.dtype)
    return reduced_loss(logits, labels, class_weights, ignore_index, reduction, label_smoothing, align_corners)


@reference_of(upsample_cross_entropy)
def _plain(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> Tensor:
    """Cross entropy of logits [N, K, h, w], upsampled to labels [N, H, W], over pixels not ignored.

    With class_weights [K] the mean is weighted, as in F.cross_entropy. If no pixel counts, or all have weight 0, the
    mean and its gradient are 0.
    """
    _check_reduction(reduction)
    check_label_smoothing(label_smoothing)
    check_labels(labels)
    labels = labels.long()
    upsampled = plain_upsample(logits, labels.shape[1:], align_corners)
    weights = labels != ignore_index
    if class_weights is not None:
        check_weights_of_classes(class_weights)
        class_weights = class_weights.to(upsampled.dtype)
        classes = labels.where(weights, 0).clamp(0, len(class_weights) - 1)  # labels out of range are reported below
        weights = class_weights[classes] * weights
    wide = torch.promote_types(upsampled.dtype, torch.float32)
    losses = F.cross_entropy(
        upsampled,
        labels,
        weight=class_weights,
        ignore_index=ignore_index,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    if reduction == "none":
        return losses
    total = weights.sum(dtype=wide) if reduction == "mean" else losses.new_ones((), dtype=wide)
    return (losses.sum(dtype=wide) / total.where(total != 0, 1)).to(losses.dtype)


def reduced_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    label_smoothing: float,
    align_corners: bool,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean or sum of the losses, times pixel_weights [N, H, W] of the real_dtype of logits, which a mean counts too."""
    arguments = class_weights, ignore_index, reduction, label_smoothing, align_corners, pixel_weights
    return _forward(logits, labels, *arguments)[0]


@operator(
    "upsample_cross_entropy",
    schema="(Tensor logits, Tensor labels, Tensor? class_weights=None, int ignore_index=255, str reduction='mean', "
    "float label_smoothing=0.0, bool align_corners=False, Tensor? pixel_weights=None) -> (Tensor, Tensor)",
)
def _forward(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    align_corners: bool = False,
    pixel_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient by the logits, from one pass over the pixels."""
    check_labelled_scores(logits, labels, class_weights)
    grad_logits = empty(logits, *logits.shape)
    loss, invalid_pixel = loss_and_gradient(
        pixel_major(logits),
        readable(labels),
        None if class_weights is None else class_weights.contiguous(),
        ignore_index,
        grad_logits,
        reduction == "mean",
        label_smoothing,
        align_corners,
        pixel_weights,
    )
    classes = logits.shape[1]
    deferred_checks.expect(invalid_pixel, lambda pixel: invalid_label(labels, pixel, classes, ignore_index))
    return loss.to(logits.dtype, copy=True), grad_logits


@_forward.register_fake
def _(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, *numbers: object) -> tuple[Tensor, Tensor]:
    check_labelled_scores(logits, labels, class_weights)
    return logits.new_empty(()), empty(logits, *logits.shape)


@operator(
    "upsample_cross_entropy_backward",
    schema="(Tensor grad, Tensor grad_logits, Tensor logits) -> Tensor",
)
def _backward(grad: Tensor, grad_logits: Tensor, logits: Tensor) -> Tensor:
    """Gradient grad_logits, as the forward computed it, times the gradient of the loss.

    The logits are not read; as arguments they let a second differentiation be refused.
    """
    return grad * grad_logits


@_backward.register_fake
def _(grad: Tensor, grad_logits: Tensor, logits: Tensor) -> Tensor:
    return empty(grad_logits, *grad_logits.shape)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, grad_logits = output
    ctx.mark_non_differentiable(grad_logits)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad_logits, inputs[0])
    ctx.others = len(inputs) - 1


def _autograd(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_logits, logits = ctx.saved_tensors
    return None if grad is None else _backward(grad, grad_logits, logits), *(None for _ in range(ctx.others))


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
