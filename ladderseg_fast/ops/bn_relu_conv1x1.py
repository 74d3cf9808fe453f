"""Batch norm, rectification and 1x1 convolution in one pass."""

import torch
from torch import Tensor

from . import autocast, kernels
from .checks import check_batch_norm, check_grad, check_weight
from .gradients import batch_norm_gradients, no_double_backward
from .layout import empty, pixel_major
from .operator import operator
from .transforms import refuse_tangents


def bn_relu_conv1x1(
    x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, weight: Tensor
) -> Tensor:
    """1x1 convolution of bn_relu(x), which is never stored: not here, not in backward.

    Args:
        x: [N, C, H, W], float32 or float64, on CUDA float16 or bfloat16 too; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
        weight: [M, C, 1, 1].
    Returns:
        [N, M, H, W], channels_last; of the dtype of x, or of torch.autocast's on CUDA.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md sections 3 and 4.
    Equivalent to: ops.reference.bn_relu_conv1x1.
    """
    refuse_tangents("bn_relu_conv1x1", (x, mean, invstd, gamma, beta, weight))
    x, weight = autocast.cast(x, weight)
    return _forward(x, mean, invstd, gamma, beta, weight)


@operator(
    "ladderseg_fast::bn_relu_conv1x1",
    schema="(Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight) -> Tensor",
)
def _forward(
    x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, weight: Tensor
) -> Tensor:
    _check(x, mean, invstd, gamma, beta, weight)
    out = empty(x, *_output_shape(x, weight))
    kernels.bn_relu_conv1x1_forward(pixel_major(x), kernels.Norm.of(mean, invstd, gamma, beta), weight, out)
    return out


@_forward.register_fake
def _(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, weight: Tensor) -> Tensor:
    _check(x, mean, invstd, gamma, beta, weight)
    return empty(x, *_output_shape(x, weight))


@operator(
    "ladderseg_fast::bn_relu_conv1x1_backward",
    schema="(Tensor grad, Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x and weight, and the sums of kernels.BnSums in the dtype of mean."""
    _check(x, mean, invstd, gamma, beta, weight)
    check_grad(grad, _output_shape(x, weight), x)
    grad_x = empty(x, *x.shape)
    grad_weight, sums = kernels.bn_relu_conv1x1_backward(
        kernels.CorrectedGradient(pixel_major(grad)),
        pixel_major(x),
        kernels.Norm.of(mean, invstd, gamma, beta),
        weight,
        grad_x,
        accumulate=False,
    )
    dtype = mean.dtype
    return grad_x, grad_weight.to(weight.dtype), sums.masked.to(dtype, copy=True), sums.centred.to(dtype, copy=True)


@_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return empty(x, *x.shape), weight.new_empty(weight.shape), torch.empty_like(mean), torch.empty_like(mean)


def _check(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, weight: Tensor) -> None:
    check_batch_norm("x", x, mean, invstd, gamma, beta)
    check_weight(weight, "x", x)


def _output_shape(x: Tensor, weight: Tensor) -> tuple[int, int, int, int]:
    n, _, h, w = x.shape
    return n, weight.shape[0], h, w


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad: Tensor):
    x, mean, invstd, gamma, beta, weight = ctx.saved_tensors
    grad_x, grad_weight, masked, centred = _backward(grad, x, mean, invstd, gamma, beta, weight)
    return grad_x, *batch_norm_gradients(masked, centred, invstd, gamma, beta), grad_weight


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
