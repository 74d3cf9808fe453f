"""The gradient of the images, for those who ask for it (saliency, adversarial examples): in strips, through torch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops import kernels
from ...ops.kernels import BnSums, CorrectedGradient
from ...ops.layout import empty, pixel_major, zeros
from ..batch_norm import BoundNorm
from ..feature import write
from ..passes import BackwardPass
from ..strips import Strip, strips

_PADDING = 3
_STRIDE = 2

#: Rows of the convolution on either side of a strip that the windows of the pooling reach.
_HALO = 2


def add_image_gradient(
    step: BackwardPass,
    grad: CorrectedGradient,
    images: Tensor,
    weight: Tensor,
    bound: BoundNorm,
    sums: BnSums,
    grad_images: Tensor,
) -> None:
    """Add the gradient of images [N, C, H, W] to grad_images; grad [N, K, h, w] is that of the pooled map."""
    n, _, h, w = images.shape
    height, width = (h + 1) // 2, (w + 1) // 2
    channels = weight.shape[0]
    pooled_gradient = write(grad, step.workspace.take(images, *grad.grad.shape))
    max_pixels = max(1, step.plan.chunk_bytes // (channels * images.element_size()))
    for strip in strips(n, height, width, max_pixels, _HALO, multiple=_STRIDE):
        piece = _Piece.of(images, weight, strip)
        grad_rows = _backward_pooling(piece, pooled_gradient, bound, sums)
        grad_images[strip.images, :, piece.rows] += piece.backward(grad_rows, weight)


def _backward_pooling(piece: "_Piece", pooled_gradient: Tensor, bound: BoundNorm, sums: BnSums) -> Tensor:
    """The gradient of the convolution's output on the rows of the piece's strip.

    The last row of a strip, an odd one, also lies in the first window of the next strip, whose other rows are in the
    halo.
    """
    strip, values = piece.strip, piece.values
    last = min((strip.rows.stop + 1) // 2 + 1, pooled_gradient.shape[2])
    pooled = pooled_gradient[strip.images, :, strip.rows.start // 2 : last]
    n, c, _, w = values.shape
    grad = empty(values, n, c, strip.rows.stop - strip.rows.start, w)
    kernels.bn_relu_maxpool_backward(
        pooled,
        values,
        bound.norm,
        grad,
        first_row=strip.rows.start - strip.outer.start,
        first_grad_row=strip.inner.start,
    )
    return write(bound.corrected(values[:, :, strip.inner], grad, sums), grad)


@dataclass
class _Piece:
    """The convolution's output rows `strip.outer`, and the image rows that they read."""

    strip: Strip
    source: Tensor
    rows: slice
    """Where the source's rows are in the images."""
    first: int
    """The row of the source's convolution at which `strip.outer` starts."""
    values: Tensor

    @staticmethod
    def of(images: Tensor, weight: Tensor, strip: Strip) -> "_Piece":
        # Two output rows more than the padding needs, so that the first image row is even and strides stay in step.
        start = max(0, _STRIDE * (strip.outer.start - 2))
        rows = slice(start, min(images.shape[2], _STRIDE * (strip.outer.stop - 1) + _PADDING + 1))
        source, first = images[strip.images, :, rows], strip.outer.start - start // _STRIDE
        result = F.conv2d(source, weight, stride=_STRIDE, padding=_PADDING)
        count = strip.outer.stop - strip.outer.start
        return _Piece(strip, source, rows, first, pixel_major(result[:, :, first : first + count]))

    def backward(self, grad: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the source from `grad` [n, K, rows, W'] on the rows of the strip."""
        n, c, _, w = grad.shape
        padded = zeros(grad, n, c, (self.source.shape[2] - 1) // _STRIDE + 1, w)
        inner = self.strip.inner
        padded[:, :, self.first + inner.start : self.first + inner.stop] = grad
        stride, padding, dilation = [_STRIDE] * 2, [_PADDING] * 2, [1, 1]
        return torch.ops.aten.convolution_backward(
            padded, self.source, weight, None, stride, padding, dilation, False, [0, 0], 1, [True, False, False]
        )[0]
