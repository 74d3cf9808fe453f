"""Batch norm, rectification and 1x1 convolution in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _core
from . import autocast, reference
from .arguments import BnSums, Gradient, Norm, empty_weight_gradient, readable_weight, statistics_to_write
from .backend import launch, real_dtype
from .checks import check_tensors
from .cost import pixels
from .kernel import kernel
from .pointers import feature_map, memories, memory
from .registration import bn_relu_operator, reference_of
from .transforms import refuse_tangents


def bn_relu_conv1x1(
    x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, weight: Tensor
) -> Tensor:
    """1x1 convolution of bn_relu(x), which is never stored, neither here nor in backward.

    Args:
        x: [N, C, H, W], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
        weight: [M, C, 1, 1].
    Returns:
        [N, M, H, W], channels_last; of the dtype of x, or of torch.autocast's.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md sections 3 and 4.
    Equivalent to: ops.reference.bn_relu_conv1x1.
    """
    refuse_tangents("bn_relu_conv1x1", (x, mean, invstd, gamma, beta, weight))
    check_tensors(x=x, weight=weight)
    x, weight = autocast.cast(x, weight)
    return _operator(x, mean, invstd, gamma, beta, weight)


@reference_of(bn_relu_conv1x1)
def _plain(
    x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, weight: Tensor
) -> Tensor:
    """1x1 convolution of bn_relu(x) [N, C, H, W] with weight [M, C, 1, 1]: [N, M, H, W]."""
    return F.conv2d(reference.bn_relu(x, mean, invstd, gamma, beta), weight)


@kernel("bn_relu_conv1x1_forward", "conv1x1_forward", lambda x, weight, **_: 2.0 * weight.numel() * pixels(x))
def bn_relu_conv1x1_forward(
    x: Tensor, norm: Norm, weight: Tensor, out: Tensor, statistics: Tensor | bool | None = None
) -> Tensor | None:
    """Computes out [N, M, H, W] = conv1x1(bn_relu(x [N, C, H, W]), weight); with `statistics`, returns out's.

    They are written to `statistics` if it is a tensor, [2, M] float64 whose rows are contiguous.
    """
    result = statistics_to_write(out, statistics)
    weight = readable_weight(weight, x.dtype, x.shape[1], out.shape[1])
    pointers = feature_map(x), norm.pointers(), memory(weight), feature_map(out), *memories(result)
    launch(_core.bn_relu_conv1x1_forward, x, *pointers)
    return result


def _backward_operations(x: Tensor, weight: Tensor, want_weight: bool = True, **_: object) -> float:
    return 2.0 * (1 + want_weight) * weight.numel() * pixels(x)


@kernel("bn_relu_conv1x1_backward", "conv1x1_backward", _backward_operations)
def bn_relu_conv1x1_backward(
    grad: Gradient,
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    grad_x: Tensor | None,
    accumulate: bool = False,
    want_weight: bool = True,
) -> tuple[Tensor | None, BnSums]:
    """Computes grad_x [N, C, H, W] (+)= norm.scale * m from grad [N, M, H, W]; returns grad_weight and the sums."""
    sums = BnSums.empty(x.shape[1], x.device)
    weight = readable_weight(weight, x.dtype, x.shape[1], grad.grad.shape[1])
    grad_weight = empty_weight_gradient(weight) if want_weight else None
    launch(
        _core.bn_relu_conv1x1_backward,
        x,
        grad.pointers(),
        feature_map(x),
        norm.pointers(),
        memory(weight),
        feature_map(grad_x),
        accumulate,
        memory(grad_weight),
        sums.pointers(),
    )
    return grad_weight, sums


@kernel("bn_relu_conv1x1_weight", "conv1x1_backward", lambda grad, x, **_: 2.0 * grad.grad.shape[1] * x.numel())
def bn_relu_conv1x1_weight(grad: Gradient, x: Tensor, norm: Norm, centre: Tensor | None = None) -> Tensor:
    """The gradient [M, C, 1, 1] of the weight alone, if the convolution reads bn_relu(x) - centre; on the CPU only.

    Args:
        grad: [N, M, H, W].
        x: [N, C, H, W].
        centre: [C] or None, for 0.
    """
    shape = (grad.grad.shape[1], x.shape[1], 1, 1)
    grad_weight = torch.empty(shape, dtype=real_dtype(x.dtype), device=x.device)
    pointers = grad.pointers(), feature_map(x), norm.pointers(), memory(centre), memory(grad_weight)
    launch(_core.bn_relu_conv1x1_weight, x, *pointers)
    return grad_weight


_operator = bn_relu_operator(
    "bn_relu_conv1x1",
    "Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight",
    output_shape=lambda x, *vectors_weight: (x.shape[0], vectors_weight[-1].shape[0], *x.shape[2:]),
    forward=bn_relu_conv1x1_forward,
    backward=lambda grad, *arguments: bn_relu_conv1x1_backward(Gradient(grad), *arguments),
)
