"""The stem with torch's (cuDNN's) convolution: the convolution's output exists for one strip of rows at a time.

Arguments and results are as in stem_forward, stem_backward_sums and stem_backward_weight. Each function convolves every
strip once; nothing else of the convolution's size is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .affine_correction import settled
from .arguments import BnSums, Correction, Gradient, Norm
from .backend import real_dtype
from .bn_relu_maxpool import bn_relu_maxpool_backward, bn_relu_maxpool_forward
from .channel_statistics import mean_and_variance
from .cost import pixels
from .kernel import torch_kernel
from .layout import empty, pixel_major
from .running_statistics import RunningStatistics
from .strip_totals import StripTotals
from .strips import Strip, strips

_PADDING = 3
_STRIDE = 2

#: Rows of the convolution that the pooling's windows reach on either side of a strip.
HALO = 2

#: Bytes of the convolution's result that exist at once.
_CHUNK_BYTES = 64 << 20


def forward(
    images: Tensor, weight: Tensor, scale: Tensor | None, norm: Norm | None, out: Tensor, statistics: bool = False
) -> Tensor | None:
    weight = weight.to(images.dtype)
    running = RunningStatistics()
    for piece in pieces(images, weight):
        strip = piece.strip
        rows = slice(strip.rows.start // 2, (strip.rows.stop + 1) // 2)
        bn_relu_maxpool_forward(piece.values, norm, out[strip.images, :, rows], strip.inner.start, scale)
        if statistics:
            values = piece.values[:, :, strip.inner]
            running.add(values.numel() // values.shape[1], mean_and_variance(values))
    return running.result() if statistics else None


def backward_sums(grad: Gradient, images: Tensor, weight: Tensor, norm: Norm) -> BnSums:
    pooled, weight = settled(grad), weight.to(images.dtype)
    totals = StripTotals()
    for piece in pieces(images, weight):
        totals.add(piece.backward_pooling(pooled, norm, None))
    return totals.sums


def backward_weight(grad: Gradient, images: Tensor, weight: Tensor, norm: Norm, correction: Correction) -> Tensor:
    pooled, weight = settled(grad), weight.to(images.dtype)
    total = torch.zeros(weight.shape, dtype=real_dtype(images.dtype), device=images.device)
    for piece in pieces(images, weight):
        grad_values = piece.empty_gradient()
        piece.backward_pooling(pooled, norm, piece.rows_of(grad_values), correction)
        (more,) = stem_convolution_backward(grad_values, piece.source, weight, (False, True))
        total += more
    return total


def pieces(images: Tensor, weight: Tensor, max_bytes: int = _CHUNK_BYTES) -> Iterator["Piece"]:
    """Convolution of images [N, C, H, W] in strips of about `max_bytes`."""
    n, _, h, w = images.shape
    max_pixels = max(1, max_bytes // (weight.shape[0] * images.element_size()))
    for strip in strips(n, (h + 1) // 2, (w + 1) // 2, max_pixels, HALO, multiple=_STRIDE):
        yield Piece.of(images, weight, strip)


@dataclass
class Piece:
    """Output rows `strip.outer` of the convolution, and the image rows that they read, which are pixel-major."""

    strip: Strip
    source: Tensor
    rows: slice
    """Rows of the images that the source holds."""
    first: int
    """The row of the source's convolution at which `strip.outer` starts."""
    values: Tensor

    @staticmethod
    def of(images: Tensor, weight: Tensor, strip: Strip) -> "Piece":
        # Two more output rows than the padding needs, so that the first image row is even and strides stay aligned.
        start = max(0, _STRIDE * (strip.outer.start - 2))
        rows = slice(start, min(images.shape[2], _STRIDE * (strip.outer.stop - 1) + _PADDING + 1))
        source, first = pixel_major(images[strip.images, :, rows]), strip.outer.start - start // _STRIDE
        result = stem_convolution(source, weight)
        count = strip.outer.stop - strip.outer.start
        return Piece(strip, source, rows, first, pixel_major(result[:, :, first : first + count]))

    def empty_gradient(self) -> Tensor:
        """Gradient of the source's convolution: zero, except the strip's rows, which the caller must write."""
        n, c, _, w = self.values.shape
        grad = empty(self.values, n, c, (self.source.shape[2] - 1) // _STRIDE + 1, w)
        inner = self.strip.inner
        grad[:, :, : self.first + inner.start].zero_()
        grad[:, :, self.first + inner.stop :].zero_()
        return grad

    def rows_of(self, grad: Tensor) -> Tensor:
        """Rows of the strip in a result of empty_gradient."""
        inner = self.strip.inner
        return grad[:, :, self.first + inner.start : self.first + inner.stop]

    def backward_pooling(
        self, pooled_gradient: Tensor, norm: Norm, out: Tensor | None, correction: Correction | None = None
    ) -> BnSums:
        """Computes out = norm.scale * m on the strip's rows from the pooled map's gradient; returns their sums.

        For `correction`, and for sums without `out`, see bn_relu_maxpool_backward.
        """
        first, rows = self.strip.inner.start, self.strip.inner.stop - self.strip.inner.start
        pooled = self._pooled_rows(pooled_gradient)
        return bn_relu_maxpool_backward(pooled, self.values, norm, out, first, first, correction, rows)

    def _pooled_rows(self, pooled: Tensor) -> Tensor:
        """Pooled rows whose windows reach the strip.

        The last row of a strip, an odd one, also lies in the first window of the next strip, whose other rows are in
        the halo.
        """
        rows = self.strip.rows
        last = min((rows.stop + 1) // 2 + 1, pooled.shape[2])
        return pooled[self.strip.images, :, rows.start // 2 : last]


def _operations(images: Tensor, weight: Tensor, wanted: tuple[bool, ...] = (True,), **_: object) -> float:
    return 2.0 * sum(wanted) * weight.numel() * pixels(images) / 4


@torch_kernel("stem_convolution", "stem", _operations)
def stem_convolution(images: Tensor, weight: Tensor) -> Tensor:
    """Convolution by torch: images [N, C, H, W] -> [N, K, ceil(H / 2), ceil(W / 2)]."""
    return F.conv2d(images, weight, stride=_STRIDE, padding=_PADDING)


@torch_kernel("stem_convolution_backward", "stem", _operations)
def stem_convolution_backward(grad: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> list[Tensor]:
    """Gradients of images and weight, where `wanted`, from the gradient of stem_convolution(images, weight)."""
    stride, padding, dilation = [_STRIDE] * 2, [_PADDING] * 2, [1, 1]
    gradients = torch.ops.aten.convolution_backward(
        grad, images, weight, None, stride, padding, dilation, False, [0, 0], 1, [*wanted, False]
    )
    return [gradient for gradient, want in zip(gradients, wanted) if want]
