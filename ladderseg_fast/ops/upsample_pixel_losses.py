"""Losses of the pixels of upsampled logits, and sums of their softmax, without full-resolution logits."""

from typing import Any

import torch
from torch import Tensor

from . import deferred_checks
from .backend import real_dtype
from .labelled_scores import check_labelled_scores, invalid_label, readable
from .layout import empty, pixel_major
from .loss_kernels import loss_and_gradient, write_pixel_losses
from .registration import no_double_backward, operator

_ARGUMENTS = (
    "Tensor logits, Tensor labels, Tensor? class_weights, int ignore_index, float label_smoothing, bool align_corners"
)


def pixel_losses(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> Tensor:
    """Cross entropy [N, H, W] of every pixel, of the real_dtype of logits [N, K, h, w]; 0 where labels are ignored."""
    return _losses(logits, labels, class_weights, ignore_index, label_smoothing, align_corners)


def softmax_sums(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> tuple[Tensor, Tensor]:
    """Sums over the counted pixels of the upsampled logits [N, K, h, w], float64.

    Returns:
        losses [2]: the sum of the cross entropies, and that of the weights of their classes.
        class sums [N, 3, K]: the sum of a class's softmax, that over the pixels with its label, and their number.
        Differentiable are the first of losses and the first two class sums.
    """
    sums: tuple[Tensor, Tensor] = _sums(logits, labels, class_weights, ignore_index, label_smoothing, align_corners)
    return sums


def _write(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    align_corners: bool,
    *,
    losses: Tensor | None = None,
    class_sums: Tensor | None = None,
) -> Tensor:
    """Calls the kernel with arguments that it reads, and reports labels out of range; returns the sums of losses."""
    weights = None if class_weights is None else class_weights.contiguous()
    loss_sums, invalid_pixel = write_pixel_losses(
        pixel_major(logits), readable(labels), weights, ignore_index, losses, class_sums, label_smoothing, align_corners
    )
    classes = logits.shape[1]
    deferred_checks.expect(invalid_pixel, lambda pixel: invalid_label(labels, pixel, classes, ignore_index))
    return loss_sums


def _gradient(
    pixel_weights: Tensor,
    grad_class_sums: Tensor | None,
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    align_corners: bool,
) -> Tensor:
    """Gradient by the logits of the losses times pixel_weights, and of class sums."""
    real = real_dtype(logits.dtype)
    grad_logits = empty(logits, *logits.shape)
    loss_and_gradient(
        pixel_major(logits),
        readable(labels),
        None if class_weights is None else class_weights.contiguous(),
        ignore_index,
        grad_logits,
        mean=False,
        label_smoothing=label_smoothing,
        align_corners=align_corners,
        pixel_weights=pixel_weights.to(real).contiguous(),
        grad_class_sums=None if grad_class_sums is None else grad_class_sums.to(real).contiguous(),
    )
    return grad_logits


@operator("upsample_pixel_losses", schema=f"({_ARGUMENTS}) -> Tensor")
def _losses(logits: Tensor, labels: Tensor, class_weights: Tensor | None, *numbers: Any) -> Tensor:
    check_labelled_scores(logits, labels, class_weights)
    losses = torch.empty(labels.shape, dtype=real_dtype(logits.dtype), device=logits.device)
    _write(logits, labels, class_weights, *numbers, losses=losses)
    return losses


@_losses.register_fake
def _(logits: Tensor, labels: Tensor, class_weights: Tensor | None, *numbers: Any) -> Tensor:
    check_labelled_scores(logits, labels, class_weights)
    return torch.empty(labels.shape, dtype=real_dtype(logits.dtype), device=logits.device)


@operator("upsample_pixel_losses_backward", schema=f"(Tensor grad, {_ARGUMENTS}) -> Tensor")
def _losses_backward(grad: Tensor, logits: Tensor, labels: Tensor, *others: Any) -> Tensor:
    if grad.shape != labels.shape:
        raise ValueError(f"grad must be {tuple(labels.shape)} like the losses, got shape {tuple(grad.shape)}")
    return _gradient(grad, None, logits, labels, *others)


@_losses_backward.register_fake
def _(grad: Tensor, logits: Tensor, labels: Tensor, *others: Any) -> Tensor:
    return empty(logits, *logits.shape)


@operator("upsample_softmax_sums", schema=f"({_ARGUMENTS}) -> (Tensor, Tensor)")
def _sums(logits: Tensor, labels: Tensor, class_weights: Tensor | None, *numbers: Any) -> tuple[Tensor, Tensor]:
    check_labelled_scores(logits, labels, class_weights)
    class_sums = _empty_class_sums(logits)
    return _write(logits, labels, class_weights, *numbers, class_sums=class_sums), class_sums


@_sums.register_fake
def _(logits: Tensor, labels: Tensor, class_weights: Tensor | None, *numbers: Any) -> tuple[Tensor, Tensor]:
    check_labelled_scores(logits, labels, class_weights)
    return torch.empty(2, dtype=torch.float64, device=logits.device), _empty_class_sums(logits)


@operator(
    "upsample_softmax_sums_backward",
    schema=f"(Tensor grad_losses, Tensor grad_class_sums, {_ARGUMENTS}) -> Tensor",
)
def _sums_backward(
    grad_losses: Tensor, grad_class_sums: Tensor, logits: Tensor, labels: Tensor, *others: Any
) -> Tensor:
    return _gradient(grad_losses[:1], grad_class_sums, logits, labels, *others)


@_sums_backward.register_fake
def _(grad_losses: Tensor, grad_class_sums: Tensor, logits: Tensor, labels: Tensor, *others: Any) -> Tensor:
    return empty(logits, *logits.shape)


def _empty_class_sums(logits: Tensor) -> Tensor:
    return torch.empty((logits.shape[0], 3, logits.shape[1]), dtype=torch.float64, device=logits.device)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.numbers = inputs[3:]


def _losses_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _losses_backward(grad, *ctx.saved_tensors, *ctx.numbers), *(None for _ in range(5))


def _sums_autograd(ctx: Any, grad_losses: Tensor, grad_class_sums: Tensor) -> tuple[Tensor | None, ...]:
    grads = grad_losses, grad_class_sums
    return _sums_backward(*grads, *ctx.saved_tensors, *ctx.numbers), *(None for _ in range(5))


_losses.register_autograd(_losses_autograd, setup_context=_setup_context)
_sums.register_autograd(_sums_autograd, setup_context=_setup_context)
no_double_backward(_losses_backward)
no_double_backward(_sums_backward)
