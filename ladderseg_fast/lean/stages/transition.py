"""The transition down, with the pooling before the product: they commute (ALGORITHMS.md section 5)."""

from collections.abc import Iterator

from torch import Tensor

from ...nn import Transition
from ...ops.arguments import Norm
from ...ops.bn_relu_avgpool2 import bn_relu_avgpool2_backward, bn_relu_avgpool2_forward
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward, bn_relu_conv1x1_forward
from ...ops.running_statistics import RunningStatistics
from ...ops.strip_totals import StripTotals
from ...ops.strips import Strip, strips
from ..batch_norm import uses_batch_statistics
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .stage import Size, Stage


class TransitionStage(Stage):
    """`transition` from feature `source` to feature `target`, strip by strip: the pooled map never exists in full.

    The product reads the pooled map through a batch norm and ReLU that change nothing, since averages of rectified
    numbers are not negative. If an average is 0, this ReLU stops its gradient, as the ReLUs before the pooling would.
    """

    def __init__(self, transition: Transition, source: str, target: str) -> None:
        self.norm, self.conv = transition.norm, transition.conv
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (self.norm, self.conv)
        self.forward_weights = self.backward_weights = (WeightUse(self.conv, Form.plain),)

    def size(self, *sources: Size) -> Size:
        height, width = sources[-1]
        return height // 2, width // 2

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.bind_to_feature(self.norm, source, self.norm.num_features)
        n, _, h, w = source.data.shape
        if min(h, w) < 2:
            raise ValueError(f"{self.reads[0]} must be at least 2 x 2 to be pooled, got {h} x {w}")
        target = step.new_feature(self.writes, n, self.conv.out_channels, h // 2, w // 2)
        wanted = uses_batch_statistics(self.norm)  # the next block most likely does the same
        running = RunningStatistics()
        identity = step.identity(source.data.shape[1])
        for strip in self._strips(source.data, step):
            pooled = self._pool(source.data, strip, bound.norm, step)
            out = target.data[strip.images, :, strip.rows]
            weight = step.weights.plain(self.conv)
            statistics = bn_relu_conv1x1_forward(pooled, identity, weight, out, statistics=wanted)
            if statistics is not None:
                running.add(out.numel() // out.shape[1], statistics)
        if wanted:
            target.set_statistics(0, running.result())

    def backward(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]].data
        bound = step.norms[self.norm]
        grad = step.gradient_of(self.writes).corrected(0, self.conv.out_channels)
        target, accumulate = step.gradient_for(self.reads[0], source.shape[1])
        totals = StripTotals()
        identity = step.identity(source.shape[1])
        for strip in self._strips(source, step):
            pooled = self._pool(source, strip, bound.norm, step)
            grad_pooled = step.workspace.take(pooled, *pooled.shape)
            grad_weight, _ = bn_relu_conv1x1_backward(
                grad.part(strip.images, strip.rows),
                pooled,
                identity,
                step.weights.plain(self.conv),
                grad_pooled,
                accumulate=False,
                want_weight=step.wants(self.conv),
            )
            x = source[strip.images, :, _rows_below(strip, source)]
            if target is None:  # only the sums are needed, not the values written
                rows = step.workspace.take(source, *x.shape)
            else:
                rows = target.data[strip.images, :, _rows_below(strip, source)]
            accumulate = accumulate and target is not None
            totals.add(bn_relu_avgpool2_backward(grad_pooled, x, bound.norm, rows, accumulate), grad_weight)
        step.add_gradient(self.conv, totals.grad_weight)
        step.finish_norm_of(step.features[self.reads[0]], self.norm, totals.sums, target)

    def _strips(self, source: Tensor, step: ForwardPass | BackwardPass) -> Iterator[Strip]:
        """Strips of the pooled map."""
        n, c, h, w = source.shape
        return strips(n, h // 2, w // 2, max(1, step.plan.chunk_bytes // (c * source.element_size())), halo=0)

    def _pool(self, source: Tensor, strip: Strip, norm: Norm, step: ForwardPass | BackwardPass) -> Tensor:
        x = source[strip.images, :, _rows_below(strip, source)]
        n, c, h, w = x.shape
        pooled = step.workspace.take(x, n, c, h // 2, w // 2)
        bn_relu_avgpool2_forward(x, norm, pooled)
        return pooled


def _rows_below(strip: Strip, source: Tensor) -> slice:
    """The rows of `source` that the strip's rows average; the last strip includes a remaining odd row."""
    height = source.shape[2]
    last = strip.rows.stop == height // 2
    return slice(2 * strip.rows.start, height if last else 2 * strip.rows.stop)
