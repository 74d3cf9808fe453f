"""Batch norm, rectification and 2x2 average pooling."""

import torch.nn.functional as F
from torch import Tensor

from .. import _core
from . import reference
from .arguments import BnSums, Norm
from .backend import launch
from .kernel import kernel
from .pointers import feature_map
from .registration import bn_relu_operator, reference_of
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
    return _operator(x, mean, invstd, gamma, beta)


@reference_of(bn_relu_avgpool2)
def _plain(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Average of 2 x 2 pixels of bn_relu(x) [N, C, H, W]: [N, C, H // 2, W // 2]."""
    return F.avg_pool2d(reference.bn_relu(x, mean, invstd, gamma, beta), kernel_size=2)


@kernel("bn_relu_avgpool2_forward")
def bn_relu_avgpool2_forward(x: Tensor, norm: Norm, out: Tensor) -> None:
    """Computes out [N, C, H // 2, W // 2] = avg_pool2d(bn_relu(x [N, C, H, W]), 2)."""
    launch(_core.bn_relu_avgpool2_forward, x, feature_map(x), norm.pointers(), feature_map(out))


@kernel("bn_relu_avgpool2_backward")
def bn_relu_avgpool2_backward(grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, accumulate: bool = False) -> BnSums:
    """Computes grad_x [N, C, H, W] (+)= norm.scale * m from grad [N, C, H // 2, W // 2]; returns the sums."""
    sums = BnSums.empty(x.shape[1], x.device)
    arguments = feature_map(grad), feature_map(x), norm.pointers(), feature_map(grad_x), accumulate, sums.pointers()
    launch(_core.bn_relu_avgpool2_backward, x, *arguments)
    return sums


def _check(x: Tensor, *_: Tensor | None) -> None:
    if min(x.shape[2:]) < 2:
        raise ValueError(f"x must have at least 2 x 2 pixels to be pooled, got shape {tuple(x.shape)}")


def _output_shape(x: Tensor, *_: Tensor | None) -> tuple[int, ...]:
    n, c, h, w = x.shape
    return n, c, h // 2, w // 2


_operator = bn_relu_operator(
    "bn_relu_avgpool2",
    "Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta",
    output_shape=_output_shape,
    forward=bn_relu_avgpool2_forward,
    backward=lambda *arguments: (None, bn_relu_avgpool2_backward(*arguments)),
    check=_check,
)
