"""Batch norm and rectification of the patches that a 3x3 convolution with stride 2 reads."""

import torch
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


def bn_relu_patches(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """The 3 x 3 pixels of bn_relu(x) around every second pixel, as channels: what a convolution with stride 2 reads.

    Outside the map they are zero (padding 1). A 3x3 convolution with stride 2 and weight [M, C, 3, 3] is the 1x1
    convolution of the result with weight.permute(0, 2, 3, 1).reshape(M, 9 * C, 1, 1).

    Args:
        x: [N, C, H, W], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
    Returns:
        [N, 9 * C, (H + 1) // 2, (W + 1) // 2], channels_last; channel (3 * ky + kx) * C + c at (y, x) is channel c at
        (2 * y + ky - 1, 2 * x + kx - 1).
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md section 8.
    Equivalent to: ops.reference.bn_relu_patches.
    """
    refuse_tangents("bn_relu_patches", (x, mean, invstd, gamma, beta))
    return _operator(x, mean, invstd, gamma, beta)


@reference_of(bn_relu_patches)
def _plain(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Patches of 3 x 3 pixels, stride 2, padding 1, of bn_relu(x) [N, C, H, W]: [N, 9C, (H + 1) // 2, (W + 1) // 2]."""
    framed = F.pad(reference.bn_relu(x, mean, invstd, gamma, beta), (1, 1, 1, 1))
    height, width = framed.shape[2:]
    taps = [framed[:, :, ky : height + ky - 2 : 2, kx : width + kx - 2 : 2] for ky in range(3) for kx in range(3)]
    return torch.cat(taps, dim=1)


@kernel("bn_relu_patches_forward")
def bn_relu_patches_forward(x: Tensor, norm: Norm, out: Tensor, first_row: int = 0) -> None:
    """Computes out [N, 9 * C, h, ceil(W / 2)], the patches of bn_relu(x [N, C, H, W]).

    For a strip of rows, `first_row` of x is at the centre of the first row of out. A strip of out reads the rows of x
    from the one above that centre to the one below the centre of its last row.
    """
    launch(_core.bn_relu_patches_forward, x, feature_map(x), norm.pointers(), feature_map(out), first_row)


@kernel("bn_relu_patches_backward")
def bn_relu_patches_backward(
    grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, first_row: int = 0, add_first_row: bool = False
) -> BnSums:
    """Computes grad_x [N, C, H, W] = norm.scale * m from grad [N, 9 * C, h, ceil(W / 2)]; returns the sums.

    For a strip of rows, `first_row` is as in the forward, and grad_x has the rows of x. The last row of a strip of x is
    the first one of the next, and each strip knows a part of its gradient. So strips go from the top to the bottom, and
    with `add_first_row` the first row of grad_x, left by the strip above, is added to. The sums are of the strip's
    part.
    """
    sums = BnSums.empty(x.shape[1], x.device)
    launch(
        _core.bn_relu_patches_backward,
        x,
        feature_map(grad),
        feature_map(x),
        norm.pointers(),
        feature_map(grad_x),
        first_row,
        add_first_row,
        sums.pointers(),
    )
    return sums


def _check(x: Tensor, *_: Tensor | None) -> None:
    if min(x.shape[2:]) < 1:
        raise ValueError(f"x must have at least one pixel, got shape {tuple(x.shape)}")


def _output_shape(x: Tensor, *_: Tensor | None) -> tuple[int, ...]:
    n, c, h, w = x.shape
    return n, 9 * c, (h + 1) // 2, (w + 1) // 2


_operator = bn_relu_operator(
    "bn_relu_patches",
    "Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta",
    output_shape=_output_shape,
    forward=bn_relu_patches_forward,
    backward=lambda *arguments: (None, bn_relu_patches_backward(*arguments)),
    check=_check,
)
