"""The transition up, in strips: of its own it keeps nothing (ALGORITHMS.md section 5).

The concatenation of the upsampled coarse feature with the projected skip connection is the widest map of the ladder.
It is made strip by strip whenever it is needed: for its statistics, for the convolution, and in backward. Where one
strip holds it all, it is made once a pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...nn import TransitionUp
from ...ops import kernels
from ...ops.kernels import BnSums, CorrectedGradient, Norm
from ..batch_norm import BoundNorm, uses_batch_statistics
from ..feature import write
from ..passes import BackwardPass, ForwardPass
from ..statistics import RunningStatistics
from ..strips import Strip, strips
from .stage import Stage


class TransitionUpStage(Stage):
    """`up` from features `coarse` and `skip` to feature `target`."""

    def __init__(self, up: TransitionUp, coarse: str, skip: str, target: str) -> None:
        self.up = up
        self.reads = self.keeps = (coarse, skip)
        self.writes = target
        self.modules = (up.skip_norm, up.skip_conv, up.norm, up.conv)

    def forward(self, step: ForwardPass) -> None:
        coarse, skip = (step.features[name] for name in self.reads)
        up = self.up
        skip_bound = step.bind_to_feature(up.skip_norm, skip, up.skip_norm.num_features)
        blend = _Blend(step, coarse.data, skip.data, skip_bound.norm, step.parameter(up.skip_conv))
        statistics = blend.statistics() if uses_batch_statistics(up.norm) else None
        bound = step.bind(up.norm, statistics, skip.positions, skip.data.dtype)
        n, _, h, w = skip.data.shape
        target = step.new_feature(self.writes, coarse.data, n, up.conv.out_channels, h, w)
        weight = step.parameter(up.conv)
        for strip in blend.strips(halo=1):
            both = blend.rows(strip.images, strip.outer)
            out = target.data[strip.images, :, strip.rows]
            kernels.bn_relu_conv3x3_forward(both, bound.norm, weight, 1, out, first_row=strip.inner.start)

    def backward(self, step: BackwardPass) -> None:
        coarse, skip = (step.features[name].data for name in self.reads)
        up = self.up
        skip_weight = step.parameter(up.skip_conv)
        blend = _Blend(step, coarse, skip, step.norms[up.skip_norm].norm, skip_weight)
        # The coarse half is through and its gradient gone before the gradient of the skip connection is made.
        upsampled, projected = self._backward_convolution(step, blend)
        step.drop_gradient(self.writes)
        self._backward_upsampled(step, blend, upsampled)
        del upsampled
        self._backward_projected(step, blend, projected)

    def _backward_convolution(self, step: BackwardPass, blend: "_Blend") -> tuple["_HalfGradient", "_HalfGradient"]:
        """Backward of BN - ReLU - conv 3x3, for the two halves of the concatenation."""
        up = self.up
        bound = step.norms[up.norm]
        grad = step.gradient_of(self.writes).corrected(0, up.conv.out_channels)
        weight = step.parameter(up.conv)
        n, _, h, w = blend.shape
        halves = []
        for channels in blend.halves:
            grad_half = step.workspace.take(blend.skip, n, channels.stop - channels.start, h, w)
            halves.append(_HalfGradient(channels, grad_half, BnSums.zeros(grad_half.shape[1], grad_half.device)))
        grad_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        for strip in blend.strips(halo=1):
            both = blend.rows(strip.images, strip.outer)
            for half in halves:
                grad_weight_half, sums = kernels.bn_relu_conv3x3_backward(
                    grad.part(strip.images, strip.outer),
                    both[:, half.channels],
                    bound.norm.part(half.channels),
                    weight[:, half.channels],
                    1,
                    half.data[strip.images, :, strip.rows],
                    grad_first_row=strip.inner.start,
                    first_row=strip.inner.start,
                    want_weight=step.wants(up.conv),
                )
                half.sums += sums
                if grad_weight_half is not None:
                    grad_weight[:, half.channels] += grad_weight_half
        step.add_gradient(up.conv, grad_weight)
        step.add_norm_gradients(up.norm, BnSums.cat([half.sums for half in halves]))
        for half in halves:
            half.bound = bound.part(half.channels)
        return tuple(halves)

    def _backward_upsampled(self, step: BackwardPass, blend: "_Blend", half: "_HalfGradient") -> None:
        gradient = step.gradient_of(self.reads[0])
        if gradient is None:
            return
        if half.bound.batch_statistics:
            for strip in blend.strips(halo=0):
                corrected = half.corrected(strip, blend.upsampled_rows(strip.images, strip.rows))
                write(corrected, corrected.grad)
        grad_coarse = step.workspace.take(half.data, *gradient.data.shape)
        kernels.upsample_backward(half.data, grad_coarse)
        gradient.data += grad_coarse

    def _backward_projected(self, step: BackwardPass, blend: "_Blend", half: "_HalfGradient") -> None:
        up = self.up
        bound = step.norms[up.skip_norm]
        gradient = step.gradient_of(self.reads[1])
        total = BnSums.zeros(up.skip_norm.num_features, blend.skip.device)
        grad_weight = torch.zeros_like(blend.weight, memory_format=torch.contiguous_format)
        for strip in blend.strips(halo=0):
            needs_projected = half.bound.batch_statistics
            projected = blend.projected_rows(strip.images, strip.rows) if needs_projected else None
            grad_weight_strip, sums = kernels.bn_relu_conv1x1_backward(
                half.corrected(strip, projected),
                blend.skip[strip.images, :, strip.rows],
                bound.norm,
                blend.weight,
                None if gradient is None else gradient.data[strip.images, :, strip.rows],
                accumulate=True,
                want_weight=step.wants(up.skip_conv),
            )
            total += sums
            if grad_weight_strip is not None:
                grad_weight += grad_weight_strip
        step.add_gradient(up.skip_conv, grad_weight)
        step.add_norm_gradients(up.skip_norm, total)
        if gradient is not None:
            gradient.defer(bound, total)


@dataclass
class _HalfGradient:
    """scale * m of one half of the concatenation, and what its correction needs."""

    channels: slice
    data: Tensor
    sums: BnSums
    bound: BoundNorm | None = None

    def corrected(self, strip: Strip, values: Tensor | None) -> CorrectedGradient:
        """The gradient of the strip's rows, whose `values` are the concatenation's."""
        return self.bound.corrected(values, self.data[strip.images, :, strip.rows], self.sums)


class _Blend:
    """The concatenation [N, D + M, H, W], made strip by strip; the last strip is remembered."""

    def __init__(
        self, step: ForwardPass | BackwardPass, coarse: Tensor, skip: Tensor, norm: Norm, weight: Tensor
    ) -> None:
        n, _, h, w = skip.shape
        upsampled, channels = coarse.shape[1], coarse.shape[1] + weight.shape[0]
        self.coarse, self.skip, self.norm, self.weight = coarse, skip, norm, weight
        self.workspace = step.workspace
        self.shape = (n, channels, h, w)
        self.halves = (slice(0, upsampled), slice(upsampled, channels))
        self._max_pixels = max(1, step.plan.transition_up_bytes // (channels * skip.element_size()))
        self._last: tuple[slice, slice, Tensor] | None = None

    def strips(self, halo: int) -> Iterator[Strip]:
        n, _, h, w = self.shape
        return strips(n, h, w, self._max_pixels, halo)

    def rows(self, images: slice, rows: slice) -> Tensor:
        """Rows of both halves."""
        return self._make(images, rows, statistics=False)[0]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [D + M] float64 of the whole."""
        running = RunningStatistics(self.shape[1], self.skip.device)
        for strip in self.strips(halo=0):
            both, statistics = self._make(strip.images, strip.rows, statistics=True)
            running.add(both.numel() // both.shape[1], *statistics)
        return running.result()

    def upsampled_rows(self, images: slice, rows: slice) -> Tensor:
        """Rows of the first half alone."""
        if self._remembers(images, rows):
            return self._last[2][:, self.halves[0]]
        n, _, h, w = self.skip[images, :, rows].shape
        out = self.workspace.take(self.skip, n, self.coarse.shape[1], h, w)
        kernels.upsample_forward(self.coarse[images], out, rows.start, self.shape[2])
        return out

    def projected_rows(self, images: slice, rows: slice) -> Tensor:
        """Rows of the second half alone."""
        if self._remembers(images, rows):
            return self._last[2][:, self.halves[1]]
        source = self.skip[images, :, rows]
        n, _, h, w = source.shape
        out = self.workspace.take(self.skip, n, self.weight.shape[0], h, w)
        kernels.bn_relu_conv1x1_forward(source, self.norm, self.weight, out)
        return out

    def _make(self, images: slice, rows: slice, statistics: bool) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        if self._remembers(images, rows) and not statistics:
            return self._last[2], None
        self._last = None
        skip = self.skip[images, :, rows]
        n, _, h, w = skip.shape
        both = self.workspace.take(self.skip, n, self.shape[1], h, w)
        result = kernels.upsample_project_concat_forward(
            self.coarse[images], skip, self.norm, self.weight, both, rows.start, self.shape[2], statistics
        )
        self._last = (images, rows, both)
        return both, result

    def _remembers(self, images: slice, rows: slice) -> bool:
        return self._last is not None and self._last[:2] == (images, rows)
