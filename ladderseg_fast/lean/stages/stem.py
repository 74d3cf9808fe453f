"""The stem: conv 7x7/2 - BN - ReLU - maxpool 3x3/2, in strips.

Kept is only the image. The convolution's output, the largest map of the network, is made again strip by strip
whenever it is needed: for its statistics, for the pooling, and in backward for the sums of batch norm and for the
weight gradient. Where one strip holds it all, it is made once a pass.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops import kernels
from ...ops.kernels import BnSums
from ...ops.layout import empty, pixel_major, zeros
from ..batch_norm import BoundNorm, uses_batch_statistics
from ..feature import write
from ..passes import BackwardPass, ForwardPass
from ..plan import MemoryPlan
from ..statistics import RunningStatistics
from ..strips import Strip, strips
from .stage import Stage

_PADDING = 3
_STRIDE = 2


class StemStage(Stage):
    """`conv`, `norm`, ReLU and pooling from feature `source` (images) to the first channels of `target`."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, source: str, target: str, channels: int) -> None:
        self.conv, self.norm = conv, norm
        self.channels = channels
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (conv, norm)

    def forward(self, step: ForwardPass) -> None:
        images = step.features[self.reads[0]].data
        weight = step.parameter(self.conv)
        convolution = _Convolution(images, weight, step.plan)
        statistics = convolution.statistics() if uses_batch_statistics(self.norm) else None
        bound = step.bind(self.norm, statistics, convolution.positions, images.dtype)
        n, _, h, w = convolution.shape
        target = step.new_feature(self.writes, images, n, self.channels, (h + 1) // 2, (w + 1) // 2)
        for strip in convolution.strips():
            pooled = slice(strip.rows.start // 2, (strip.rows.stop + 1) // 2)  # centred on the strip's rows
            out = target.channels(weight.shape[0])[strip.images, :, pooled]
            kernels.bn_relu_maxpool_forward(
                convolution.rows(strip), bound.norm, out, first_row=2 * pooled.start - strip.outer.start
            )

    def backward(self, step: BackwardPass) -> None:
        images = step.features[self.reads[0]].data
        weight = step.parameter(self.conv)
        bound = step.norms[self.norm]
        gradient = step.gradient_of(self.writes).corrected(0, weight.shape[0])
        pooled_gradient = write(gradient, step.workspace.take(images, *gradient.grad.shape))
        convolution = _Convolution(images, weight, step.plan)
        sums = BnSums.zeros(weight.shape[0], images.device)
        for strip in convolution.strips():
            sums += _backward_strip(convolution, strip, pooled_gradient, bound)[1]
        step.add_norm_gradients(self.norm, sums)
        target = step.gradient_of(self.reads[0])
        if target is None and not step.wants(self.conv):
            return
        grad_weight = torch.zeros_like(weight)
        for strip in convolution.strips():
            grad, _ = _backward_strip(convolution, strip, pooled_gradient, bound)
            corrected = bound.corrected(convolution.rows(strip)[:, :, strip.inner], grad, sums)
            write(corrected, grad)
            grad_weight += convolution.backward(strip, grad, None if target is None else target.data)
        step.add_gradient(self.conv, grad_weight)


def _backward_strip(
    convolution: "_Convolution", strip: Strip, pooled_gradient: Tensor, bound: BoundNorm
) -> tuple[Tensor, BnSums]:
    """scale * m of the convolution's output on the rows of `strip`, and the sums over these rows.

    The last row of a strip, an odd one, also lies in the first window of the next strip, whose other rows are in the
    halo.
    """
    rows = convolution.rows(strip)
    last = min((strip.rows.stop + 1) // 2 + 1, pooled_gradient.shape[2])
    pooled = pooled_gradient[strip.images, :, strip.rows.start // 2 : last]
    n, c, _, w = rows.shape
    grad = empty(rows, n, c, strip.rows.stop - strip.rows.start, w)
    sums = kernels.bn_relu_maxpool_backward(
        pooled,
        rows,
        bound.norm,
        grad,
        first_row=strip.rows.start - strip.outer.start,
        first_grad_row=strip.inner.start,
    )
    return grad, sums


class _Convolution:
    """The stem's convolution, computed strip by strip of its output rows."""

    #: Rows on either side of a strip that the windows of the pooling reach.
    halo = 2

    def __init__(self, images: Tensor, weight: Tensor, plan: MemoryPlan) -> None:
        n, _, h, w = images.shape
        self.images, self.weight, self.plan = images, weight, plan
        self.shape = (n, weight.shape[0], (h - 1) // _STRIDE + 1, (w - 1) // _STRIDE + 1)
        self._last: tuple[Strip, Tensor] | None = None

    @property
    def positions(self) -> int:
        n, _, h, w = self.shape
        return n * h * w

    def strips(self) -> Iterator[Strip]:
        n, c, h, w = self.shape
        max_pixels = max(1, self.plan.chunk_bytes // (c * self.images.element_size()))
        return strips(n, h, w, max_pixels, self.halo, multiple=_STRIDE)

    def rows(self, strip: Strip) -> Tensor:
        """Output rows `strip.outer`, pixel-major; the last strip is remembered."""
        if self._last is None or self._last[0] != strip:
            self._last = None
            source, first = self._source(strip)
            result = F.conv2d(source, self.weight, stride=_STRIDE, padding=_PADDING)
            count = strip.outer.stop - strip.outer.start
            self._last = (strip, pixel_major(result[:, :, first : first + count]))
        return self._last[1]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [C] float64 of the output."""
        running = RunningStatistics(self.shape[1], self.images.device)
        for strip in self.strips():
            rows = self.rows(strip)[:, :, strip.inner]
            running.add(rows.numel() // rows.shape[1], *kernels.channel_statistics(rows))
        return running.result()

    def backward(self, strip: Strip, grad: Tensor, grad_images: Tensor | None) -> Tensor:
        """Gradient of the weight from `grad` [n, C, rows, W] on the rows of `strip`; adds to grad_images."""
        source, first = self._source(strip)
        n, c, _, w = grad.shape
        height = (source.shape[2] - 1) // _STRIDE + 1
        padded = zeros(grad, n, c, height, w)
        padded[:, :, first + strip.inner.start : first + strip.inner.stop] = grad
        grad_source, grad_weight, _ = torch.ops.aten.convolution_backward(
            padded,
            source,
            self.weight,
            None,
            [_STRIDE, _STRIDE],
            [_PADDING, _PADDING],
            [1, 1],
            False,
            [0, 0],
            1,
            [grad_images is not None, True, False],
        )
        if grad_images is not None:
            grad_images[strip.images, :, self._source_rows(strip)] += grad_source
        return grad_weight

    def _source_rows(self, strip: Strip) -> slice:
        # Two output rows more than the padding needs, so that the first image row is even and strides stay in step.
        start = max(0, _STRIDE * (strip.outer.start - 2))
        return slice(start, min(self.images.shape[2], _STRIDE * (strip.outer.stop - 1) + _PADDING + 1))

    def _source(self, strip: Strip) -> tuple[Tensor, int]:
        """The image rows under `strip.outer`, and where its rows start in their convolution."""
        rows = self._source_rows(strip)
        return self.images[strip.images, :, rows], strip.outer.start - rows.start // _STRIDE
