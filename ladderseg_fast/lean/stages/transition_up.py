"""The transition-up, which keeps no map of its own unless the plan asks for it (ALGORITHMS.md section 5).

The concatenation of the upsampled coarse feature with the projected skip connection never exists: its convolution is
the sum of the convolutions of the two halves. The upsampled half, and in backward the projected half, are computed
strip by strip whenever they are needed; once a pass if one strip holds all of a half.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...nn import TransitionUp
from ...ops.affine_correction import write
from ...ops.arguments import Gradient
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ...ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ...ops.channel_statistics import mean_and_variance
from ...ops.running_statistics import RunningStatistics
from ...ops.strip_totals import StripTotals
from ...ops.strips import Strip, strips
from ...ops.upsample import upsample_backward, upsample_forward
from ..batch_norm import uses_batch_statistics
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .stage import Stage


class TransitionUpStage(Stage):
    """`up` from feature `coarse` and the projected `skip` to feature `target`.

    ProjectionStage computes `skip` from `source`. Backward recomputes it, unless `keep_skip` has it kept.
    """

    def __init__(
        self, up: TransitionUp, coarse: str, source: str, skip: str, target: str, keep_skip: bool = False
    ) -> None:
        self.up = up
        self.reads = (coarse, skip)
        self.keeps = (coarse, skip if keep_skip else source)
        self._keep_skip = keep_skip
        self.writes = target
        self.modules = (up.norm, up.conv)
        upsampled, channels = up.norm.num_features - up.skip_conv.out_channels, up.norm.num_features
        first, second = self.halves = (slice(0, upsampled), slice(upsampled, channels))
        self.forward_weights = (_use(up, Form.forward, first), _use(up, Form.forward, second))
        projection = () if keep_skip else (WeightUse(up.skip_conv, Form.plain),)
        self.backward_weights = (_use(up, Form.backward, first), *projection, _use(up, Form.backward, second))

    def forward(self, step: ForwardPass) -> None:
        coarse, skip = (step.features[name] for name in self.reads)
        up, (first, second) = self.up, self.halves
        upsampled = self._upsampled(step, coarse.data, skip.data)
        statistics = None
        wanted = uses_batch_statistics(up.norm)
        if wanted:
            both = [upsampled.statistics(), skip.statistics(second.stop - second.start)]
            statistics = torch.cat(both, dim=1)
        bound = step.bind(up.norm, statistics, skip.positions, skip.data.dtype)
        n, _, h, w = skip.data.shape
        target = step.new_feature(self.writes, n, up.conv.out_channels, h, w)
        weights = [step.weights.forward(up.conv, half) for half in self.halves]
        running = RunningStatistics()
        for strip in upsampled.strips(halo=1):
            out = target.data[strip.images, :, strip.rows]
            values, norm = upsampled.rows(strip.images, strip.outer), bound.norm
            row = strip.inner.start
            bn_relu_conv3x3_forward(values, norm.part(first), weights[0], 1, out, row)
            values = skip.data[strip.images, :, strip.outer]
            more = bn_relu_conv3x3_forward(
                values, norm.part(second), weights[1], 1, out, row, accumulate=True, statistics=wanted
            )
            if more is not None:
                running.add(out.numel() // out.shape[1], more)
        if wanted:  # the reader most likely does the same
            target.set_statistics(0, running.result())

    def backward(self, step: BackwardPass) -> None:
        # The maps of one half are freed before the other half begins.
        like = step.norms[self.up.norm].norm.mean
        gradients = torch.empty_like(like), torch.empty_like(like)  # of gamma and beta
        grad_weights = self._backward_upsampled(step, gradients), self._backward_projected(step, gradients)
        if step.wants(self.up.conv):
            step.add_gradient(self.up.conv, torch.cat([half for half in grad_weights if half is not None], dim=1))
        step.add_gradient(self.up.norm, gradients[0])
        step.add_gradient(self.up.norm, gradients[1], "bias")

    def _backward_upsampled(self, step: BackwardPass, gradients: tuple[Tensor, Tensor]) -> Tensor | None:
        """Adds the gradient of the coarse feature; returns that of this half's weight."""
        coarse, other = (step.features[name].data for name in self.keeps)
        n, _, h, w = other.shape
        grad_half = step.workspace.take(coarse, n, coarse.shape[1], h, w)
        result = self._backward_half(step, self._upsampled(step, coarse, other), self.halves[0], grad_half, gradients)
        self._add_coarse_gradient(step, grad_half)
        del coarse
        step.done_with(self.keeps[0], self)
        return result

    def _add_coarse_gradient(self, step: BackwardPass, grad_half: Tensor) -> None:
        name = self.reads[0]
        if name in step.feature_gradients:
            gradient = step.feature_gradients[name].data
            grad_coarse = step.workspace.take(gradient, *gradient.shape)
            upsample_backward(grad_half, grad_coarse)
            gradient += grad_coarse
        elif (first := step.new_gradient(name)) is not None:
            upsample_backward(grad_half, first.data)

    def _backward_projected(self, step: BackwardPass, gradients: tuple[Tensor, Tensor]) -> Tensor | None:
        """Writes the gradient of the projected skip; returns that of this half's weight."""
        kept = step.features[self.keeps[1]].data
        n, _, h, w = kept.shape
        gradient = step.new_gradient(self.reads[1])
        if gradient is None:  # its values are needed only for the sums
            grad_half = step.workspace.take(kept, n, self.up.skip_conv.out_channels, h, w)
        else:
            grad_half = gradient.data
        half = _KeptHalf(step, kept) if self._keep_skip else self._projected(step, kept)
        return self._backward_half(step, half, self.halves[1], grad_half, gradients)

    def _backward_half(
        self,
        step: BackwardPass,
        half: "_Half",
        channels: slice,
        grad_half: Tensor,
        gradients: tuple[Tensor, Tensor],
    ) -> Tensor | None:
        """Runs the backward of BN - ReLU - conv 3x3 for one half; returns the gradient of its weight.

        Writes the half's corrected gradient to `grad_half`, and its part of the `gradients` of gamma and beta.
        """
        up = self.up
        bound = step.norms[up.norm].part(channels)
        grad = step.gradient_of(self.writes).corrected(0, up.conv.out_channels)
        weight = step.weights.backward(up.conv, channels)
        totals = StripTotals()
        for strip in half.strips(halo=1):
            grad_weight, sums = bn_relu_conv3x3_backward(
                grad.part(strip.images, strip.outer),
                half.rows(strip.images, strip.outer),
                bound.norm,
                weight,
                1,
                grad_half[strip.images, :, strip.rows],
                grad_first_row=strip.inner.start,
                first_row=strip.inner.start,
                want_weight=step.wants(up.conv),
            )
            totals.add(sums, grad_weight)
        gamma, beta = gradients
        correction = bound.backward(totals.sums, gradients=(gamma[channels], beta[channels])).correction
        if correction is not None:
            for strip in half.strips(halo=0):
                rows = grad_half[strip.images, :, strip.rows]
                write(Gradient(rows, half.rows(strip.images, strip.rows), correction), rows)
        return totals.grad_weight

    def _upsampled(self, step: ForwardPass | BackwardPass, coarse: Tensor, like: Tensor) -> "_Half":
        n, _, h, w = like.shape

        def make(images: slice, rows: slice, out: Tensor) -> None:
            upsample_forward(coarse[images], out, rows.start, h)

        return _Half(step, coarse, (n, coarse.shape[1], h, w), make)

    def _projected(self, step: BackwardPass, source: Tensor) -> "_Half":
        n, _, h, w = source.shape
        norm, weight = step.norms[self.up.skip_norm].norm, step.weights.plain(self.up.skip_conv)

        def make(images: slice, rows: slice, out: Tensor) -> None:
            bn_relu_conv1x1_forward(source[images, :, rows], norm, weight, out)

        return _Half(step, source, (n, weight.shape[0], h, w), make)


def _use(up: TransitionUp, form: Form, channels: slice) -> WeightUse:
    return WeightUse(up.conv, form, channels.start, channels.stop)


class _Half:
    """One half [N, D, H, W] of the concatenation, computed strip by strip; the last strip is cached."""

    def __init__(
        self,
        step: ForwardPass | BackwardPass,
        like: Tensor,
        shape: tuple[int, int, int, int],
        make: Callable[[slice, slice, Tensor], None],
    ) -> None:
        """make(images, rows, out) writes these rows of these images to `out`."""
        self._workspace, self._like, self._shape, self._make = step.workspace, like, shape, make
        self._max_pixels = max(1, step.plan.transition_up_bytes // (shape[1] * like.element_size()))
        self._last: tuple[slice, slice, Tensor] | None = None

    def strips(self, halo: int) -> Iterator[Strip]:
        n, _, h, w = self._shape
        return strips(n, h, w, self._max_pixels, halo)

    def rows(self, images: slice, rows: slice) -> Tensor:
        if self._last is None or self._last[:2] != (images, rows):
            self._last = None
            n, c, h, w = self._shape
            count = len(range(n)[images]), c, len(range(h)[rows]), w
            out = self._workspace.take(self._like, *count)
            self._make(images, rows, out)
            self._last = (images, rows, out)
        return self._last[2]

    def statistics(self) -> Tensor:
        """Mean and biased variance [2, D] float64 of the whole half."""
        running = RunningStatistics()
        for strip in self.strips(halo=0):
            values = self.rows(strip.images, strip.rows)
            running.add(values.numel() // values.shape[1], mean_and_variance(values))
        return running.result()


class _KeptHalf(_Half):
    """A half that exists in full."""

    def __init__(self, step: BackwardPass, data: Tensor) -> None:
        n, c, h, w = data.shape
        super().__init__(step, data, (n, c, h, w), lambda images, rows, out: None)
        self._data = data

    def rows(self, images: slice, rows: slice) -> Tensor:
        return self._data[images, :, rows]
