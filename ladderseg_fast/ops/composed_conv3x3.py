"""BN-ReLU-conv3x3 where the convolution is torch's (cuDNN): the normalised map exists, a few images at a time.

Arguments and results are those of kernels.bn_relu_conv3x3_forward and _backward; weights are of the dtype of the maps.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from . import kernels
from .backend import real_dtype
from .kernels import BnSums, CorrectedGradient, Norm
from .layout import empty, pixel_major, zeros

#: Bytes of the normalised map that exist at a time, unless one image takes more.
_CHUNK_BYTES = 64 << 20


def forward(
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    out: Tensor,
    first_row: int,
    accumulate: bool,
    statistics: bool,
) -> tuple[Tensor, Tensor] | None:
    rows = slice(first_row, first_row + out.shape[2])
    for images in _groups(x):
        convolved = F.conv2d(_normalised(x[images], norm), weight, padding=dilation, dilation=dilation)[:, :, rows]
        if accumulate:
            out[images] += convolved
        else:
            out[images] = convolved
    return kernels.channel_statistics(out) if statistics else None


def backward(
    grad: CorrectedGradient,
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    grad_x: Tensor,
    grad_first_row: int,
    first_row: int,
    want_weight: bool,
) -> tuple[Tensor | None, BnSums]:
    total = BnSums.zeros(x.shape[1], x.device)
    grad_weight = None
    height = grad_x.shape[2]
    for images in _groups(x):
        y = _normalised(x[images], norm)
        g = kernels.settled(grad.part(images, slice(None)))
        whole = height == x.shape[2] == g.shape[2]
        grad_y, more = _convolution_backward(g, y, weight, dilation, (True, want_weight and whole))
        if want_weight and not whole:  # that of the strip's rows alone
            strip = zeros(g, *g.shape[:2], *x.shape[2:])
            strip[:, :, first_row : first_row + height] = g[:, :, grad_first_row : grad_first_row + height]
            _, more = _convolution_backward(strip, y, weight, dilation, (False, True))
        if want_weight:
            more = more.to(real_dtype(x.dtype))
            grad_weight = more if grad_weight is None else grad_weight.add_(more)
        total += kernels.bn_relu_backward(
            pixel_major(grad_y)[:, :, grad_first_row : grad_first_row + height],
            x[images, :, first_row : first_row + height],
            norm,
            grad_x[images],
            accumulate=False,
        )
    if want_weight and grad_weight is None:  # a batch without images
        grad_weight = torch.zeros(weight.shape, dtype=real_dtype(x.dtype), device=x.device)
    return grad_weight, total


def _groups(x: Tensor) -> Iterator[slice]:
    """Groups of images whose normalised maps are of about _CHUNK_BYTES."""
    count = x.shape[0]
    size = max(1, _CHUNK_BYTES // max(1, x[:1].numel() * x.element_size()))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _normalised(x: Tensor, norm: Norm) -> Tensor:
    y = empty(x, *x.shape)
    kernels.bn_relu_forward(x, norm, y)
    return y


def _convolution_backward(
    grad: Tensor, y: Tensor, weight: Tensor, dilation: int, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of y (of the height of grad) and of weight."""
    if y.shape[2] != grad.shape[2]:
        y = y[:, :, :1].expand(*y.shape[:2], *grad.shape[2:]) if wanted[0] else y  # its shape alone matters
    spread = [dilation, dilation]
    grad_y, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad, y, weight, None, [1, 1], spread, spread, False, [0, 0], 1, [*wanted, False]
    )
    return grad_y, grad_weight
