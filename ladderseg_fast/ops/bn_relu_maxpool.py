"""Batch norm, rectification and 3x3 max pooling with stride 2."""

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


def bn_relu_maxpool(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Maximum of 3 x 3 pixels of bn_relu(x), stride 2, padding 1: the end of the stem.

    Args:
        x: [N, C, H, W], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
    Returns:
        [N, C, (H + 1) // 2, (W + 1) // 2], channels_last.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md section 5, stem.
    Equivalent to: ops.reference.bn_relu_maxpool.
    """
    refuse_tangents("bn_relu_maxpool", (x, mean, invstd, gamma, beta))
    return _operator(x, mean, invstd, gamma, beta)


@reference_of(bn_relu_maxpool)
def _plain(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Maximum of 3 x 3 pixels, stride 2, padding 1, of bn_relu(x) [N, C, H, W]: [N, C, (H + 1) // 2, (W + 1) // 2]."""
    return F.max_pool2d(reference.bn_relu(x, mean, invstd, gamma, beta), kernel_size=3, stride=2, padding=1)


@kernel("bn_relu_maxpool_forward")
def bn_relu_maxpool_forward(x: Tensor, norm: Norm, out: Tensor, first_row: int = 0) -> None:
    """Computes out [N, C, h, w] = max_pool2d(bn_relu(x [N, C, H, W]), 3, stride 2, padding 1).

    For a strip of rows, `first_row` of x is at the centre of the first row of out.
    """
    launch(_core.bn_relu_maxpool_forward, x, feature_map(x), norm.pointers(), feature_map(out), first_row)


@kernel("bn_relu_maxpool_backward")
def bn_relu_maxpool_backward(
    grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, first_row: int = 0, first_grad_row: int = 0
) -> BnSums:
    """Computes grad_x = norm.scale * m from grad [N, C, h, w], for the rows of x [N, C, H, W] from `first_grad_row` on.

    The sums are over the rows of grad_x.
    """
    sums = BnSums.empty(x.shape[1], x.device)
    launch(
        _core.bn_relu_maxpool_backward,
        x,
        feature_map(grad),
        feature_map(x),
        norm.pointers(),
        feature_map(grad_x),
        first_row,
        first_grad_row,
        sums.pointers(),
    )
    return sums


def _check(x: Tensor, *_: Tensor | None) -> None:
    if min(x.shape[2:]) < 1:
        raise ValueError(f"x must have at least one pixel to be pooled, got shape {tuple(x.shape)}")


def _output_shape(x: Tensor, *_: Tensor | None) -> tuple[int, ...]:
    n, c, h, w = x.shape
    return n, c, (h + 1) // 2, (w + 1) // 2


_operator = bn_relu_operator(
    "bn_relu_maxpool",
    "Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta",
    output_shape=_output_shape,
    forward=bn_relu_maxpool_forward,
    backward=lambda *arguments: (None, bn_relu_maxpool_backward(*arguments)),
    check=_check,
)
