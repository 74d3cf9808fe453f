"""Batch norm, rectification and 3x3 convolution in one pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _core
from . import autocast, reference
from .arguments import BnSums, Gradient, Norm, Weight, statistics_to_write
from .backend import backend_of, launch, real_dtype
from .checks import check_tensors
from .cost import pixels
from .kernel import kernel
from .pointers import feature_map, memories, memory
from .prepared_weights import Form, readable
from .registration import bn_relu_operator, reference_of
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
    """3x3 convolution of bn_relu(x), which is never stored, neither here nor in backward.

    The padding is as wide as the dilation and holds zeros instead of bn_relu(x). On the CPU the products follow
    Winograd's minimal filtering F(4x4, 3x3): a quarter of the plain sum's products, and the same result within
    rounding; F(2x2, 3x3), with 4/9 of them, for few pixels and for weights of 2^17 pairs of channels or more. If
    bn_relu(x) is NaN or infinite, every tile of 4x4 pixels that reads it is NaN: at most three pixels (times the
    dilation) farther than in plain PyTorch.

    Args:
        x: [N, C, H, W], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
        weight: [M, C, 3, 3].
        dilation: at least 1.
    Returns:
        [N, M, H, W], channels_last; of the dtype of x, or of torch.autocast's.
    Raises:
        ValueError: a shape or device does not fit, or the dilation is not positive.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md sections 3 to 5.
    Equivalent to: ops.reference.bn_relu_conv3x3.
    """
    refuse_tangents("bn_relu_conv3x3", (x, mean, invstd, gamma, beta, weight))
    check_tensors(x=x, weight=weight)
    x, weight = autocast.cast(x, weight)
    return _operator(x, mean, invstd, gamma, beta, weight, dilation)


@reference_of(bn_relu_conv3x3)
def _plain(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    dilation: int = 1,
) -> Tensor:
    """3x3 convolution of bn_relu(x) [N, C, H, W] with weight [M, C, 3, 3], zero padded: [N, M, H, W]."""
    return F.conv2d(reference.bn_relu(x, mean, invstd, gamma, beta), weight, padding=dilation, dilation=dilation)


def _operations(x: Tensor, weight: Weight, dilation: int, out: Tensor) -> float:
    """Multiplications and additions of one convolution of these channels, to all pixels of `out`."""
    n, channels, h, w = out.shape
    pairs = weight.numel() // 9
    if backend_of(x.device).on_gpu:
        return 18.0 * pairs * pixels(out)
    dilation = min(dilation, max(h, w, 1))  # a larger one does as little
    return 2.0 * _core.conv3x3_products(n, h, w, dilation, pairs // channels, channels, x.dtype == torch.bfloat16)


def _forward_operations(x: Tensor, weight: Weight, dilation: int, out: Tensor, **_: object) -> float:
    return _operations(x, weight, dilation, out)


@kernel("bn_relu_conv3x3_forward", "conv3x3_forward", _forward_operations)
def bn_relu_conv3x3_forward(
    x: Tensor,
    norm: Norm,
    weight: Weight,
    dilation: int,
    out: Tensor,
    first_row: int = 0,
    accumulate: bool = False,
    statistics: Tensor | bool | None = None,
) -> Tensor | None:
    """Computes out [N, K, h, W] (+)= conv3x3(bn_relu(x [N, C, H, W]), weight), zero-padded by the dilation.

    For a strip of rows, the first row of out is at `first_row` of x. With `statistics`, returns the statistics of out;
    they are written to it if it is a tensor, [2, K] float64 whose rows are contiguous.
    """
    result = statistics_to_write(out, statistics)
    values = readable(weight, Form.forward, x, x.shape[1], out.shape[1])
    launch(
        _core.bn_relu_conv3x3_forward,
        x,
        feature_map(x),
        first_row,
        norm.pointers(),
        memory(values),
        dilation,
        feature_map(out),
        accumulate,
        *memories(result),
    )
    return result


def _backward_operations(
    x: Tensor, weight: Weight, dilation: int, grad_x: Tensor, want_weight: bool = True, **_: object
) -> float:
    return (1 + want_weight) * _operations(x, weight, dilation, grad_x)


@kernel("bn_relu_conv3x3_backward", "conv3x3_backward", _backward_operations)
def bn_relu_conv3x3_backward(
    grad: Gradient,
    x: Tensor,
    norm: Norm,
    weight: Weight,
    dilation: int,
    grad_x: Tensor,
    grad_first_row: int = 0,
    first_row: int = 0,
    want_weight: bool = True,
) -> tuple[Tensor | None, BnSums]:
    """Computes grad_x [N, C, h, W] = norm.scale * m from grad [N, K, H', W]; returns grad_weight and the sums.

    For a strip of rows, the first row of grad_x is at `first_row` of x [N, C, H, W] and at `grad_first_row` of grad;
    both reach beyond the strip by the dilation, within the image. grad_weight and sums cover only the strip's rows.
    """
    sums = BnSums.empty(x.shape[1], x.device)
    values = readable(weight, Form.backward, x, x.shape[1], grad.grad.shape[1])
    grad_weight = torch.empty(weight.shape, dtype=real_dtype(x.dtype), device=x.device) if want_weight else None
    launch(
        _core.bn_relu_conv3x3_backward,
        x,
        grad.pointers(),
        grad_first_row,
        feature_map(x),
        first_row,
        norm.pointers(),
        memory(values),
        dilation,
        feature_map(grad_x),
        memory(grad_weight),
        sums.pointers(),
    )
    return grad_weight, sums


def _check(*inputs: Any) -> None:
    dilation = inputs[-1]
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1, got {dilation}")


_operator = bn_relu_operator(
    "bn_relu_conv3x3",
    "Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight, int dilation",
    output_shape=lambda x, *others: (x.shape[0], others[4].shape[0], *x.shape[2:]),
    forward=bn_relu_conv3x3_forward,
    backward=lambda grad, *arguments: bn_relu_conv3x3_backward(Gradient(grad), *arguments),
    check=_check,
    kernel_size=3,
)
