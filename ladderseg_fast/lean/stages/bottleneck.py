"""BN - ReLU - conv 1x1 - BN - ReLU - conv 3x3 on a feature: a dense layer, and the context layer.

The result of the 1x1 convolution is the hidden map. If it is not kept, backward recomputes it from the feature
(ALGORITHMS.md section 2).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

from torch import Tensor, nn

from ...nn import Context, DenseLayer
from ...ops.arguments import BnSums, Gradient, Norm
from ...ops.backend import backend_of
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward, bn_relu_conv1x1_forward
from ...ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ...ops.strip_totals import StripTotals
from ...ops.strips import Strip, strips
from ..batch_norm import uses_batch_statistics
from ..feature import Feature
from ..passes import BackwardPass, ForwardPass
from ..plan import SectionPlan
from ..weights import Form, PassWeights, WeightUse

#: Rows of the 3x3 convolution's tiles on the CPU: a strip of other multiples would have a row of tiles partly outside.
_TILE_ROWS = 4


@dataclass(frozen=True)
class Bottleneck:
    """The four modules, named as in nn.DenseLayer and nn.Context, and the name of their section in memory plans."""

    norm1: nn.BatchNorm2d
    conv1: nn.Conv2d
    norm2: nn.BatchNorm2d
    conv2: nn.Conv2d
    section: str
    dilation: int
    """Dilation of conv2 in the forward pass; later changes do not affect the backward of that pass."""

    @staticmethod
    def of(module: DenseLayer | Context, section: str) -> "Bottleneck":
        conv2 = module.conv2
        return Bottleneck(module.norm1, module.conv1, module.norm2, conv2, section, dilation_of(conv2))

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return self.norm1, self.conv1, self.norm2, self.conv2

    @property
    def forward_weights(self) -> tuple[WeightUse, ...]:
        """Weights that the forward uses, in order."""
        return WeightUse(self.conv1, Form.plain), WeightUse(self.conv2, Form.forward)

    @property
    def backward_weights(self) -> tuple[WeightUse, ...]:
        """Weights that the backward uses, in order."""
        return WeightUse(self.conv1, Form.plain), WeightUse(self.conv2, Form.backward)

    def forward(self, step: ForwardPass, target: Feature, source: Feature, first: int) -> None:
        """Writes channels of `target` from `first` on; reads as many first channels of `source` as norm1 has."""
        bound = step.bind_to_feature(self.norm1, source, self.norm1.num_features)
        stop = first + self.conv2.out_channels
        out = target.data[:, first:stop]
        keep = step.keep and not self._plan(step).recompute and self._keeps(step)
        if uses_batch_statistics(self.norm2):  # the readers of `out` most likely do the same
            self._forward_at_once(step, source, bound.norm, out, target.new_statistics(first, stop), keep)
        elif keep:
            self._forward_at_once(step, source, bound.norm, out, None, keep)
        else:
            self._forward_in_strips(step, source, bound.norm, out)

    def _forward_at_once(
        self, step: ForwardPass, source: Feature, norm: Norm, out: Tensor, statistics: Tensor | None, keep: bool
    ) -> None:
        """Writes `out` from the whole hidden map; and its `statistics`, if norm2 uses those of the batch."""
        x = source.channels(self.norm1.num_features)
        wanted = statistics is not None
        n, _, h, w = x.shape
        hidden = step.workspace.take(x, n, self.conv1.out_channels, h, w, spread=True)
        of_hidden = bn_relu_conv1x1_forward(x, norm, step.weights.plain(self.conv1), hidden, statistics=wanted)
        if keep:
            step.bottlenecks[self.conv1] = hidden
        second = step.bind(self.norm2, of_hidden, source.positions, hidden.dtype)
        weight = step.weights.forward(self.conv2)
        bn_relu_conv3x3_forward(hidden, second.norm, weight, self.dilation, out, statistics=statistics)

    def _forward_in_strips(self, step: ForwardPass, source: Feature, norm: Norm, out: Tensor) -> None:
        x = source.channels(self.norm1.num_features)
        second = step.bind(self.norm2, None, source.positions, x.dtype)
        parts = list(self._strips(x, step.plan.chunk_bytes, _TILE_ROWS * self.dilation))
        if len(parts) == 1 or backend_of(x.device).on_gpu:  # where copies would take the host as long as kernels
            for strip in parts:
                self._write_rows(step, step.weights, strip, x, norm, second.norm, out)
        else:
            self._forward_in_successive_strips(step, parts, x, norm, second.norm, out)

    def _forward_in_successive_strips(
        self, step: ForwardPass, parts: Sequence[Strip], x: Tensor, first: Norm, second: Norm, out: Tensor
    ) -> None:
        """Writes `out`; rows of the hidden map that two strips read are made once, and copied from one to the next."""
        n = max(strip.images.stop - strip.images.start for strip in parts)
        height = max(strip.outer.stop - strip.outer.start for strip in parts)
        memory = step.workspace.take(x, n, self.conv1.out_channels, height, x.shape[3], spread=True)
        before: Strip | None = None
        for strip in parts:
            images = x[strip.images]
            hidden = memory[: images.shape[0], :, : strip.outer.stop - strip.outer.start]
            made = 0
            if before is not None and before.images == strip.images:
                made = before.outer.stop - strip.outer.start
                last = before.outer.stop - before.outer.start
                hidden[:, :, :made].copy_(memory[: images.shape[0], :, last - made : last])
            rows = slice(strip.outer.start + made, strip.outer.stop)
            if rows.start < rows.stop:
                bn_relu_conv1x1_forward(images[:, :, rows], first, step.weights.plain(self.conv1), hidden[:, :, made:])
            weight = step.weights.forward(self.conv2)
            bn_relu_conv3x3_forward(
                hidden, second, weight, self.dilation, out[strip.images, :, strip.rows], first_row=strip.inner.start
            )
            before = strip

    def forward_again(self, step: BackwardPass, feature: Feature) -> None:
        """Recomputes the channels of `feature` that follow the ones that the layer reads."""
        x = feature.channels(self.norm1.num_features)
        first, second = step.norms[self.norm1].norm, step.norms[self.norm2].norm
        out = feature.data[:, x.shape[1] : x.shape[1] + self.conv2.out_channels]
        strip_bytes = self._plan(step).bottleneck_bytes
        if not self._keeps(step) and strip_bytes is not None:
            for strip in self._strips(x, strip_bytes):
                self._write_rows(step, step.weights_again, strip, x, first, second, out)
            return
        hidden = self._hidden(step, step.weights_again, x, first)
        if self._keeps(step):
            step.bottlenecks[self.conv1] = hidden
        bn_relu_conv3x3_forward(hidden, second, step.weights_again.forward(self.conv2), self.dilation, out)

    def _write_rows(
        self,
        step: ForwardPass | BackwardPass,
        weights: PassWeights,
        strip: Strip,
        x: Tensor,
        first: Norm,
        second: Norm,
        out: Tensor,
    ) -> None:
        hidden = self._hidden(step, weights, x[strip.images, :, strip.outer], first)
        rows, weight = out[strip.images, :, strip.rows], weights.forward(self.conv2)
        bn_relu_conv3x3_forward(hidden, second, weight, self.dilation, rows, first_row=strip.inner.start)

    def _hidden(self, step: ForwardPass | BackwardPass, weights: PassWeights, x: Tensor, norm: Norm) -> Tensor:
        """Computes the hidden map of `x` [N, C, H, W], or of some of its rows."""
        n, _, h, w = x.shape
        hidden = step.workspace.take(x, n, self.conv1.out_channels, h, w, spread=True)
        bn_relu_conv1x1_forward(x, norm, weights.plain(self.conv1), hidden)
        return hidden

    def _strips(self, x: Tensor, strip_bytes: int, multiple: int = 1) -> Iterator[Strip]:
        """Strips of `x` whose hidden maps take about `strip_bytes` bytes; each begins at a multiple of `multiple`."""
        n, _, h, w = x.shape
        max_pixels = max(1, strip_bytes // (self.conv1.out_channels * x.element_size()))
        return strips(n, h, w, max_pixels, self.dilation, multiple)

    def _plan(self, step: ForwardPass | BackwardPass) -> SectionPlan:
        return step.plan.section(self.section)

    def _keeps(self, step: ForwardPass | BackwardPass) -> bool:
        return self._plan(step).keeps_bottleneck(self.norm1.num_features)

    def backward(self, step: BackwardPass, source: str, grad: Gradient) -> None:
        """Turns `grad` [N, M, H, W] into the gradients of the parameters and of feature `source`."""
        x = step.features[source].channels(self.norm1.num_features)
        hidden = step.bottlenecks.pop(self.conv1, None)
        strip_bytes = self._plan(step).bottleneck_bytes
        if hidden is None and strip_bytes is not None:
            strips_backward = _StripsBackward(self, step, x, grad, list(self._strips(x, strip_bytes)))
            accumulate_conv1x1(step, source, self.norm1, self.conv1, strips_backward.pieces())
            return
        first, second = step.norms[self.norm1], step.norms[self.norm2]
        if hidden is None:
            hidden = self._hidden(step, step.weights, x, first.norm)
        grad_hidden = step.workspace.take(x, *hidden.shape, spread=True)
        grad_weight, sums = bn_relu_conv3x3_backward(
            grad,
            hidden,
            second.norm,
            step.weights.backward(self.conv2),
            self.dilation,
            grad_hidden,
            want_weight=step.wants(self.conv2),
        )
        step.add_gradient(self.conv2, grad_weight)
        correction = step.finish_norm(self.norm2, sums)
        whole = slice(None), slice(None), Gradient(grad_hidden, hidden, correction)
        accumulate_conv1x1(step, source, self.norm1, self.conv1, [whole])


def dilation_of(conv: nn.Conv2d) -> int:
    """Dilation of `conv`, the same in both directions; torch takes one number or two."""
    return int(conv.dilation if isinstance(conv.dilation, Integral) else conv.dilation[0])


class _StripsBackward:
    """Backward of a bottleneck that holds only strips of its hidden map and of the hidden map's gradient.

    In training the gradient of one strip needs the batch norm's sums over all strips. So there are two passes over the
    strips: for the sums and the gradient of the 3x3 weight, then for the input of the 1x1 convolution's backward.
    """

    def __init__(self, layer: Bottleneck, step: BackwardPass, x: Tensor, grad: Gradient, strips: list[Strip]) -> None:
        """grad: gradient [N, M, H, W] of the result of `layer` on x [N, C, H, W]."""
        self._layer, self._step, self._x, self._grad, self._strips = layer, step, x, grad, strips
        self._totals = StripTotals()

    def pieces(self) -> Iterator[tuple[slice, slice, Gradient]]:
        """Yields images, rows, and the gradient of the hidden map there, for accumulate_conv1x1.

        Once exhausted, it has added the gradients of the parameters of norm2 and conv2.
        """
        step, layer = self._step, self._layer
        want_weight = step.wants(layer.conv2)
        if not step.norms[layer.norm2].batch_statistics:
            for strip in self._strips:
                _, grad_hidden, grad_weight, sums = self._convolve(strip, want_weight)
                self._totals.add(sums, grad_weight)
                yield strip.images, strip.rows, Gradient(grad_hidden)
            step.finish_norm(layer.norm2, self._totals.sums)
        else:
            for strip in self._strips:
                *_, grad_weight, sums = self._convolve(strip, want_weight)
                self._totals.add(sums, grad_weight)
            correction = step.finish_norm(layer.norm2, self._totals.sums)
            for strip in self._strips:
                hidden, grad_hidden, *_ = self._convolve(strip, False)
                yield strip.images, strip.rows, Gradient(grad_hidden, hidden[:, :, strip.inner], correction)
        step.add_gradient(layer.conv2, self._totals.grad_weight)

    def _convolve(self, strip: Strip, want_weight: bool) -> tuple[Tensor, Tensor, Tensor | None, BnSums]:
        """Returns the strip's hidden map with halo, its gradient without halo, and the strip's grad_weight and sums."""
        layer, step = self._layer, self._step
        norm = step.norms[layer.norm1].norm
        hidden = layer._hidden(step, step.weights, self._x[strip.images, :, strip.outer], norm)
        grad_hidden = step.workspace.take(hidden, *hidden[:, :, strip.inner].shape, spread=True)
        grad_weight, sums = bn_relu_conv3x3_backward(
            self._grad.part(strip.images, strip.outer),
            hidden,
            step.norms[layer.norm2].norm,
            step.weights.backward(layer.conv2),
            layer.dilation,
            grad_hidden,
            grad_first_row=strip.inner.start,
            first_row=strip.inner.start,
            want_weight=want_weight,
        )
        return hidden, grad_hidden, grad_weight, sums


def accumulate_conv1x1(
    step: BackwardPass,
    source: str,
    norm: nn.BatchNorm2d,
    conv: nn.Conv2d,
    pieces: Iterable[tuple[slice, slice, Gradient]],
) -> None:
    """Runs the backward of a BN - ReLU - conv 1x1 that reads the first channels of feature `source`.

    `pieces` are images, rows, and the gradient [n, M, h, W] of the result there; together they cover the result.
    """
    channels = norm.num_features
    bound = step.norms[norm]
    x = step.features[source].channels(channels)
    target, accumulate = step.gradient_for(source, channels)
    totals = StripTotals()
    for images, rows, grad in pieces:
        grad_weight, sums = bn_relu_conv1x1_backward(
            grad,
            x[images, :, rows],
            bound.norm,
            step.weights.plain(conv),
            None if target is None else target.channels(channels)[images, :, rows],
            accumulate=accumulate,
            want_weight=step.wants(conv),
        )
        totals.add(sums, grad_weight)
    step.add_gradient(conv, totals.grad_weight)
    step.finish_norm_of(step.features[source], norm, totals.sums, target)
