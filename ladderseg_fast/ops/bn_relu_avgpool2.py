"""Batch norm, rectification and 2x2 average pooling."""

import torch
from torch import Tensor

from . import kernels
from .checks import check_batch_norm, check_grad
from .gradients import batch_norm_gradients, no_double_backward
from .layout import empty, pixel_major
from .operator import operator
from .transforms import refuse_tangents


def bn_relu_avgpool2(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Average of 2 x 2 pixels of bn_relu(x); a last odd row or column is dropped.

    Args:
        x: [N, C, H, W], float32 or float64, H and W at least 2; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
    Returns:
        [N, C, H // 2, W // 2], channels_last.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md section 5, transition.
    Equivalent to: ops.reference.bn_relu_avgpool2.
    """
    refuse_tangents("bn_relu_avgpool2", (x, mean, invstd, gamma, beta))
    return _forward(x, mean, invstd, gamma, beta)


@operator(
    "ladderseg_fast::bn_relu_avgpool2",
    schema="(Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta) -> Tensor",
)
def _forward(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    _check(x, mean, invstd, gamma, beta)
    out = empty(x, *_output_shape(x))
    kernels.bn_relu_avgpool2_forward(pixel_major(x), kernels.Norm.of(mean, invstd, gamma, beta), out)
    return out


@_forward.register_fake
def _(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    _check(x, mean, invstd, gamma, beta)
    return empty(x, *_output_shape(x))


@operator(
    "ladderseg_fast::bn_relu_avgpool2_backward",
    schema="(Tensor grad, Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta)"
    " -> (Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of x, and the sums of kernels.BnSums in the dtype of mean."""
    _check(x, mean, invstd, gamma, beta)
    check_grad(grad, _output_shape(x), x)
    grad_x = empty(x, *x.shape)
    sums = kernels.bn_relu_avgpool2_backward(
        pixel_major(grad), pixel_major(x), kernels.Norm.of(mean, invstd, gamma, beta), grad_x, accumulate=False
    )
    return grad_x, sums.masked.to(mean.dtype, copy=True), sums.centred.to(mean.dtype, copy=True)


@_backward.register_fake
def _(
    grad: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return empty(x, *x.shape), torch.empty_like(mean), torch.empty_like(mean)


def _check(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> None:
    check_batch_norm("x", x, mean, invstd, gamma, beta)
    if min(x.shape[2:]) < 2:
        raise ValueError(f"x must have at least 2 x 2 pixels to be pooled, got shape {tuple(x.shape)}")


def _output_shape(x: Tensor) -> tuple[int, int, int, int]:
    n, c, h, w = x.shape
    return n, c, h // 2, w // 2


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad: Tensor):
    x, mean, invstd, gamma, beta = ctx.saved_tensors
    grad_x, masked, centred = _backward(grad, x, mean, invstd, gamma, beta)
    return grad_x, *batch_norm_gradients(masked, centred, invstd, gamma, beta)


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
