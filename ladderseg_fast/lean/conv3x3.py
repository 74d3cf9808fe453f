"""BN - ReLU - conv 3x3 in strips: neither the convolution's input nor its gradient exists in full.

The convolution itself is the vendor library's, through torch.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import kernels
from ..ops.kernels import BnSums, Norm
from ..ops.layout import pixel_major
from .feature import CorrectedGradient
from .plan import MemoryPlan
from .strips import Strip, strips
from .workspace import Workspace


def forward(
    x: Tensor, norm: Norm, weight: Tensor, dilation: int, out: Tensor, plan: MemoryPlan, workspace: Workspace
) -> None:
    """out [N, M, H, W] = conv3x3(bn_relu(x [N, C, H, W])), zero padding as wide as the dilation.

    A strip is convolved with a halo of rows on both sides and the rows that padding has spoilt are dropped.
    """
    for strip in _strips(x, dilation, plan):
        source = x[strip.images, :, strip.outer]
        y = workspace.take(x, *source.shape)
        kernels.bn_relu_forward(source, norm, y)
        result = F.conv2d(y, weight, padding=dilation, dilation=dilation)
        out[strip.images, :, strip.rows].copy_(result[:, :, strip.inner])


def backward(
    grad: CorrectedGradient,
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    grad_x: Tensor,
    want_weight: bool,
    plan: MemoryPlan,
    workspace: Workspace,
) -> tuple[Tensor | None, BnSums]:
    """grad_x = norm.scale * m, before the batch norm correction; returns the gradient of weight and the sums.

    A strip takes the gradient with its halo, and an input that is zero in the halo: so the data gradient of the inner
    rows is complete, and every product of the weight gradient is counted in one strip only.
    """
    sums = BnSums.zeros(x.shape[1], x.device)
    grad_weight = torch.zeros_like(weight) if want_weight else None
    for strip in _strips(x, dilation, plan):
        source = x[strip.images, :, strip.rows]
        grad_strip = workspace.take(x, source.shape[0], weight.shape[0], _length(strip.outer), x.shape[3])
        grad.write(grad_strip, strip.images, strip.outer)
        y = workspace.take(x, source.shape[0], x.shape[1], _length(strip.outer), x.shape[3])
        kernels.bn_relu_forward(source, norm, y[:, :, strip.inner])
        y[:, :, : strip.inner.start] = 0.0
        y[:, :, strip.inner.stop :] = 0.0
        grad_y, grad_weight_strip, _ = torch.ops.aten.convolution_backward(
            grad_strip,
            y,
            weight,
            None,
            [1, 1],
            [dilation, dilation],
            [dilation, dilation],
            False,
            [0, 0],
            1,
            [True, want_weight, False],
        )
        if grad_weight is not None:
            grad_weight += grad_weight_strip
        grad_y = pixel_major(grad_y)[:, :, strip.inner]
        sums += kernels.bn_relu_backward(
            grad_y, source, norm, grad_x[strip.images, :, strip.rows], accumulate=False
        )
    return grad_weight, sums


def _strips(x: Tensor, halo: int, plan: MemoryPlan) -> Iterator[Strip]:
    n, c, h, w = x.shape
    return strips(n, h, w, max(1, plan.chunk_bytes // (c * x.element_size())), halo)


def _length(rows: slice) -> int:
    return rows.stop - rows.start
