"""Cross entropy of bilinearly upsampled logits, without full-resolution logits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _core
from . import deferred_checks
from .autocast import float32_in_autocast
from .backend import launch, real_dtype
from .checks import check_labels, check_map, check_vector, check_weights_of_classes
from .kernel import kernel
from .layout import empty, pixel_major
from .pointers import feature_map, memory
from .registration import no_double_backward, operator, reference_of
from .transforms import refuse_tangents
from .upsample import plain_upsample

_LABEL_TYPES = {
    torch.uint8: _core.LabelType.uint8,
    torch.int32: _core.LabelType.int32,
    torch.int64: _core.LabelType.int64,
}

#: Dtype to which labels are converted if the core does not read theirs.
_READABLE = {
    torch.int8: torch.int32,
    torch.int16: torch.int32,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,
}


def upsample_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, ignore_index: int = 255
) -> Tensor:
    """Mean cross entropy of `logits`, upsampled bilinearly to the size of `labels`, over the counted pixels.

    The gradient is computed here: labels and class weights may change before backward.

    Args:
        logits: [N, K, h, w], float32 or float64, on CUDA float16 or bfloat16 too; channels_last is read without a copy.
        labels: [N, H, W], any integer dtype; each in [0, K) or equal to `ignore_index`.
        class_weights: [K] or None; they weight the mean as in torch.nn.functional.cross_entropy. Any integer or
            floating dtype; converted to float32 beside 16-bit logits, else to their dtype. Not differentiable.
        ignore_index: label of pixels that do not count.
    Returns:
        Scalar of the dtype of logits (float32 in a region of torch.autocast); 0, with a gradient of 0, if no pixel
        counts or all have weight 0 (F.cross_entropy gives NaN then); NaN if a label is out of range on CUDA.
    Raises:
        ValueError: a label is out of range, or a shape or device does not fit. On CUDA a later call reports the label,
            because waiting for the device would cost time.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md section 5, loss.
    Equivalent to: ops.reference.upsample_cross_entropy.
    """
    logits = float32_in_autocast(logits)
    if class_weights is not None:
        check_weights_of_classes(class_weights)
        class_weights = class_weights.to(real_dtype(logits.dtype))
    refuse_tangents("upsample_cross_entropy", (logits, class_weights))
    return _forward(logits, labels, class_weights, ignore_index)[0]


@reference_of(upsample_cross_entropy)
def _plain(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, ignore_index: int = 255) -> Tensor:
    """Mean cross entropy of logits [N, K, h, w], upsampled to labels [N, H, W], over pixels not ignored.

    With class_weights [K] the mean is weighted, as in F.cross_entropy. If no pixel counts, or all have weight 0, the
    loss and its gradient are 0.
    """
    check_labels(labels)
    labels = labels.long()
    upsampled = plain_upsample(logits, labels.shape[1:])
    weights = labels != ignore_index
    if class_weights is not None:
        check_weights_of_classes(class_weights)
        class_weights = class_weights.to(upsampled.dtype)
        classes = labels.where(weights, 0).clamp(0, len(class_weights) - 1)  # labels out of range are reported below
        weights = class_weights[classes] * weights
    wide = torch.promote_types(upsampled.dtype, torch.float32)
    losses = F.cross_entropy(upsampled, labels, weight=class_weights, ignore_index=ignore_index, reduction="none")
    total = weights.sum(dtype=wide)
    return (losses.sum(dtype=wide) / total.where(total != 0, 1)).to(losses.dtype)


def _operations(logits: Tensor, labels: Tensor, **_: object) -> float:
    """Operations, mostly an exponential per class and label."""
    return 50.0 * labels.numel() * logits.shape[1]


@kernel("upsample_cross_entropy", "cross_entropy", _operations)
def loss_and_gradient(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, ignore_index: int, grad_logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scalars: the loss (float64), and the index of a pixel whose label is invalid, or -1 (int64).

    Fills grad_logits if given.

    logits [N, K, h, w]; labels [N, H, W], contiguous, uint8, int32 or int64; class_weights [K] contiguous.
    """
    loss = torch.empty((), dtype=torch.float64, device=logits.device)
    invalid_pixel = torch.empty((), dtype=torch.int64, device=logits.device)
    launch(
        _core.upsample_cross_entropy,
        logits,
        feature_map(logits),
        memory(labels),
        _LABEL_TYPES[labels.dtype],
        *labels.shape[1:],
        memory(class_weights),
        ignore_index,
        memory(loss),
        feature_map(grad_logits),
        memory(invalid_pixel),
    )
    return loss, invalid_pixel


@operator(
    "upsample_cross_entropy",
    schema="(Tensor logits, Tensor labels, Tensor? class_weights=None, int ignore_index=255) -> (Tensor, Tensor)",
)
def _forward(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, ignore_index: int = 255
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient by the logits, from one pass over the pixels."""
    _check(logits, labels, class_weights)
    grad_logits = empty(logits, *logits.shape)
    loss, invalid_pixel = loss_and_gradient(
        pixel_major(logits),
        _readable(labels),
        None if class_weights is None else class_weights.contiguous(),
        ignore_index,
        grad_logits,
    )
    classes = logits.shape[1]
    deferred_checks.expect(invalid_pixel, lambda pixel: _invalid_label(labels, pixel, classes, ignore_index))
    return loss.to(logits.dtype, copy=True), grad_logits


@_forward.register_fake
def _(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, ignore_index: int = 255
) -> tuple[Tensor, Tensor]:
    _check(logits, labels, class_weights)
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


def _check(logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> None:
    check_map("logits", logits)
    check_labels(labels)
    if labels.dim() != 3 or labels.shape[0] != logits.shape[0]:
        raise ValueError(f"labels must be [{logits.shape[0]}, H, W] for these logits, got shape {tuple(labels.shape)}")
    if labels.device != logits.device:
        raise ValueError(f"labels must be on {logits.device} like logits, got {labels.device}")
    if min(logits.shape[2:]) < 1 or min(labels.shape[1:]) < 1:
        raise ValueError(f"logits and labels must have pixels, got {tuple(logits.shape)} and {tuple(labels.shape)}")
    check_vector("class_weights", class_weights, logits.shape[1], "logits", logits)


def _readable(labels: Tensor) -> Tensor:
    """Contiguous labels in a dtype that the core reads."""
    return labels.to(_READABLE.get(labels.dtype, labels.dtype)).contiguous()


def _invalid_label(labels: Tensor, pixel: int, classes: int, ignore_index: int) -> str:
    _, height, width = labels.shape
    image, y, x = pixel // (height * width), pixel // width % height, pixel % width
    return (
        f"labels must be in [0, {classes}) or equal to ignore_index={ignore_index}, "
        f"got {int(labels[image, y, x])} at image {image}, row {y}, column {x}"
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, grad_logits = output
    ctx.mark_non_differentiable(grad_logits)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad_logits, inputs[0])


def _autograd(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_logits, logits = ctx.saved_tensors
    return None if grad is None else _backward(grad, grad_logits, logits), None, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
