"""Batch norm, rectification and 3x3 convolution in one pass."""

import torch
from torch import Tensor

from . import autocast, convolutions, kernels
from .checks import check_batch_norm, check_grad, check_weight
from .gradients import batch_norm_gradients, no_double_backward
from .layout import empty, pixel_major
from .operator import operator
from .transforms import refuse_tangents


def bn_relu_conv3x3(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    dilation: int = 1,
) -> Tensor:
    """3x3 convolution of bn_relu(x), which is never stored: not here, not in backward.

    The padding is as wide as the dilation and holds zeros in the place of bn_relu(x). On the CPU products are those of
    Winograd's minimal filtering F(2x2, 3x3): 4/9 of the plain sum's, equal to it but for rounding. Where bn_relu(x) is
    NaN or infinite, results are NaN in every 2x2 tile of pixels that reads it: at most one pixel (times the dilation)
    farther than in plain PyTorch.

    Args:
        x: [N, C, H, W], float32 or float64, on CUDA float16 or bfloat16 too; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
        weight: [M, C, 3, 3].
        dilation: at least 1.
    Returns:
        [N, M, H, W], channels_last; of the dtype of x, or of torch.autocast's on CUDA.
    Raises:
        ValueError: a shape or device does not fit, or the dilation is not positive.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md sections 3 to 5.
    Equivalent to: ops.reference.bn_relu_conv3x3.
    """
    refuse_tangents("bn_relu_conv3x3", (x, mean, invstd, gamma, beta, weight))
    x, weight = autocast.cast(x, weight)
    return _forward(x, mean, invstd, gamma, beta, weight, dilation)


@operator(
    "ladderseg_fast::bn_relu_conv3x3",
    schema="(Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight, int dilation) -> Tensor",
)
def _forward(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    dilation: int,
) -> Tensor:
    _check(x, mean, invstd, gamma, beta, weight, dilation)
    out = empty(x, *_output_shape(x, weight))
    norm = kernels.Norm.of(mean, invstd, gamma, beta)
    convolutions.bn_relu_conv3x3_forward(pixel_major(x), norm, weight, dilation, out)
    return out


@_forward.register_fake
def _(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    dilation: int,
) -> Tensor:
    _check(x, mean, invstd, gamma, beta, weight, dilation)
    return empty(x, *_output_shape(x, weight))


@operator(
    "ladderseg_fast::bn_relu_conv3x3_backward",
    schema="(Tensor grad, Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight,"
    " int dilation) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x and weight, and the sums of kernels.BnSums in the dtype of mean."""
    _check(x, mean, invstd, gamma, beta, weight, dilation)
    check_grad(grad, _output_shape(x, weight), x)
    grad_x = empty(x, *x.shape)
    grad_weight, sums = convolutions.bn_relu_conv3x3_backward(
        kernels.CorrectedGradient(pixel_major(grad)),
        pixel_major(x),
        kernels.Norm.of(mean, invstd, gamma, beta),
        weight,
        dilation,
        grad_x,
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
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return empty(x, *x.shape), weight.new_empty(weight.shape), torch.empty_like(mean), torch.empty_like(mean)


def _check(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    dilation: int,
) -> None:
    check_batch_norm("x", x, mean, invstd, gamma, beta)
    check_weight(weight, "x", x, kernel_size=3)
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1, got {dilation}")


def _output_shape(x: Tensor, weight: Tensor) -> tuple[int, int, int, int]:
    n, _, h, w = x.shape
    return n, weight.shape[0], h, w


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.dilation = inputs
    ctx.save_for_backward(*tensors)


def _autograd(ctx, grad: Tensor):
    x, mean, invstd, gamma, beta, weight = ctx.saved_tensors
    grad_x, grad_weight, masked, centred = _backward(grad, x, mean, invstd, gamma, beta, weight, ctx.dilation)
    return grad_x, *batch_norm_gradients(masked, centred, invstd, gamma, beta), grad_weight, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
