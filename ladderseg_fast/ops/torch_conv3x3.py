"""BN-ReLU-conv3x3 with torch's (cuDNN's) convolution: the normalised map exists for a few images at a time.

Arguments and results are as in bn_relu_conv3x3_forward and _backward; weights have the dtype of the maps.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .affine_correction import settled
from .arguments import BnSums, Gradient, Norm
from .backend import real_dtype
from .bn_relu import bn_relu_backward, bn_relu_forward
from .channel_statistics import mean_and_variance
from .cost import pixels
from .kernel import torch_kernel
from .layout import empty, pixel_major
from .strip_totals import StripTotals

#: Most bytes of the normalised map that exist at once, unless one image takes more.
_CHUNK_BYTES = 64 << 20


def forward(
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    out: Tensor,
    first_row: int = 0,
    accumulate: bool = False,
    statistics: bool = False,
) -> Tensor | None:
    weight = weight.to(x.dtype)
    rows = slice(first_row, first_row + out.shape[2])
    for images in _groups(x):
        convolved = _convolution(_normalised(x[images], norm), weight, dilation)[:, :, rows]
        if accumulate:
            out[images] += convolved
        else:
            out[images] = convolved
    return mean_and_variance(out) if statistics else None


def backward(
    grad: Gradient,
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    grad_x: Tensor,
    grad_first_row: int = 0,
    first_row: int = 0,
    want_weight: bool = True,
) -> tuple[Tensor | None, BnSums]:
    weight = weight.to(x.dtype)
    totals = StripTotals()
    height = grad_x.shape[2]
    whole = height == x.shape[2] == grad.grad.shape[2]
    for images in _groups(x) if whole else _single_images(x):
        if whole:
            g = settled(grad.part(images, slice(None)))
            grad_y, *more = _convolution_backward(
                g, _normalised(x[images], norm), weight, dilation, (True, want_weight)
            )
        else:
            start = max(0, grad_first_row - dilation)
            g = settled(grad.part(images, slice(start, grad_first_row + height + dilation)))
            inner = slice(grad_first_row - start, grad_first_row - start + height)
            y = _normalised_with_margins(x[images], norm, first_row, height, dilation)
            grad_y, *more = _strip_convolution_backward(g, inner, y, weight, dilation, want_weight)
        rows = x[images, :, first_row : first_row + height]
        sums = bn_relu_backward(pixel_major(grad_y), rows, norm, grad_x[images])
        totals.add(sums, more[0].to(real_dtype(x.dtype)) if want_weight else None)
    if len(x) == 0:
        grad_weight = torch.zeros(weight.shape, dtype=real_dtype(x.dtype), device=x.device) if want_weight else None
        return grad_weight, BnSums.of_none(x.shape[1], x.device)
    return totals.grad_weight, totals.sums


def _groups(x: Tensor) -> Iterator[slice]:
    """Groups of images whose normalised maps have about _CHUNK_BYTES."""
    count = x.shape[0]
    size = max(1, _CHUNK_BYTES // max(1, x[:1].numel() * x.element_size()))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _single_images(x: Tensor) -> Iterator[slice]:
    """Images one by one: any rows of a map of one image are pixel-major."""
    return (slice(i, i + 1) for i in range(x.shape[0]))


def _normalised(x: Tensor, norm: Norm) -> Tensor:
    y = empty(x, *x.shape)
    bn_relu_forward(x, norm, y)
    return y


def _normalised_with_margins(x: Tensor, norm: Norm, first_row: int, height: int, margin: int) -> Tensor:
    """Normalises `height` rows of x [1, C, H, W] from `first_row` on, and `margin` on either side (zero outside x)."""
    n, c, h, w = x.shape
    start, stop = first_row - margin, first_row + height + margin
    above, below = max(0, -start), max(0, stop - h)
    y = empty(x, n, c, stop - start, w)
    y[:, :, :above].zero_()
    y[:, :, y.shape[2] - below :].zero_()
    bn_relu_forward(x[:, :, start + above : stop - below], norm, y[:, :, above : y.shape[2] - below])
    return y


def _strip_convolution_backward(
    grad: Tensor, inner: slice, y: Tensor, weight: Tensor, dilation: int, want_weight: bool
) -> list[Tensor]:
    """Gradient of y on the strip's rows, and with `want_weight` the weight's gradient from these rows.

    The strip's rows are `inner` in grad, and all rows of y but the margins; grad has margins within the image.
    """
    like_y = y[:, :, : grad.shape[2]]  # only its shape and layout matter
    (grad_y,) = _convolution_backward(grad, like_y, weight, dilation, (True, False))
    gradients = [grad_y[:, :, inner]]
    if want_weight:
        gradients += _convolution_backward(grad[:, :, inner], y, weight, dilation, (False, True), row_padding=0)
    return gradients


@torch_kernel("conv3x3", "conv3x3_forward", lambda y, weight, **_: 2.0 * weight.numel() * pixels(y))
def _convolution(y: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return F.conv2d(y, weight, padding=dilation, dilation=dilation)


def _backward_operations(grad: Tensor, weight: Tensor, wanted: tuple[bool, bool], **_: object) -> float:
    return 2.0 * sum(wanted) * weight.numel() * pixels(grad)


@torch_kernel("conv3x3_backward", "conv3x3_backward", _backward_operations)
def _convolution_backward(
    grad: Tensor,
    y: Tensor,
    weight: Tensor,
    dilation: int,
    wanted: tuple[bool, bool],
    row_padding: int | None = None,
) -> list[Tensor]:
    """Wanted gradients of y and of weight.

    y is padded by the dilation, or by `row_padding` rows and the columns of the dilation.
    """
    padding = [dilation if row_padding is None else row_padding, dilation]
    gradients = torch.ops.aten.convolution_backward(
        grad, y, weight, None, [1, 1], padding, [dilation, dilation], False, [0, 0], 1, [*wanted, False]
    )
    return [gradient for gradient, want in zip(gradients, wanted) if want]
