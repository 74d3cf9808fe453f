"""One residual unit: convolutions with batch norms, added to the unit's input, and rectified.

In a bottleneck the convolutions are 1x1, 3x3 and 1x1, in a basic block 3x3 and 3x3 (He et al., CVPR 2016, Figure 5).
All results but that of the last convolution are hidden maps. Backward makes the unit's output again from the last
hidden map and the unit's input, without a 3x3 convolution if it is a bottleneck, and whatever else it needs likewise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...ops.arguments import Norm
from ...ops.bn_add_relu import bn_add_relu_forward
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ...ops.strips import Strip, strips
from ..batch_norm import uses_batch_statistics
from ..passes import BackwardPass, ForwardPass
from ..plan import SectionPlan
from ..weights import Form, WeightUse
from .unit_convolution import Pointwise, UnitConvolution, stride_of


@dataclass
class Ends:
    """The terms of a unit's sum in a strip of rows, before their batch norms."""

    result: Tensor
    """Result of the last convolution."""
    shortcut: Tensor | None
    """Result of the projection; None: there is none."""
    read: Tensor | None
    """Pixels that the projection reads there: those of the input, or every second one."""


@dataclass(frozen=True)
class ResidualUnit:
    """The modules of a unit, and the name of its section in memory plans."""

    convolutions: tuple[UnitConvolution, ...]
    norms: tuple[nn.BatchNorm2d, ...]
    projection: nn.Conv2d | None
    """The 1x1 convolution of the shortcut, with stride 1 or 2; None: the shortcut is the unit's input itself."""
    projection_norm: nn.BatchNorm2d | None
    section: str

    @staticmethod
    def of(unit: Any, section: str) -> "ResidualUnit":
        """The unit with the names of torchvision's: conv1, bn1, conv2, bn2, conv3 and bn3 or none, downsample."""
        numbers = (1, 2, 3) if hasattr(unit, "conv3") else (1, 2)
        convolutions = tuple(UnitConvolution.of(getattr(unit, f"conv{i}")) for i in numbers)
        norms = tuple(getattr(unit, f"bn{i}") for i in numbers)
        projection, norm = (None, None) if unit.downsample is None else unit.downsample
        return ResidualUnit(convolutions, norms, projection, norm, section)

    @property
    def in_channels(self) -> int:
        return self.convolutions[0].conv.in_channels

    @property
    def out_channels(self) -> int:
        return self.convolutions[-1].conv.out_channels

    @property
    def is_narrow(self) -> bool:
        """Whether it widens a map of few channels: the first unit of the first layer."""
        few = self.in_channels <= self.convolutions[0].conv.out_channels
        return self.projection is not None and stride_of(self.projection) == 1 and few

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        own = [module for pair in zip(self.convolutions, self.norms) for module in (pair[0].conv, pair[1])]
        shortcut = (self.projection, self.projection_norm)
        return (*own, *(module for module in shortcut if module is not None))

    @property
    def forward_weights(self) -> tuple[WeightUse, ...]:
        """Weights that the forward uses, in order."""
        return (*(each.forward_use for each in self.convolutions), *self._projection_use)

    @property
    def weights_again(self) -> tuple[WeightUse, ...]:
        """Weights that `forward_again` uses if the last hidden map is kept, in order."""
        return (self.convolutions[-1].forward_use, *self._projection_use)

    @property
    def backward_weights(self) -> tuple[WeightUse, ...]:
        """Weights that the backward uses, in order; those of the two ends are scaled copies."""
        inner = [use for each in self.convolutions[-2::-1] for use in (each.forward_use, each.backward_use)]
        return (*self.weights_again, *inner)

    @property
    def _projection_use(self) -> tuple[WeightUse, ...]:
        return () if self.projection is None else (WeightUse(self.projection, Form.plain),)

    # Forward.

    def forward(self, step: ForwardPass, x: Tensor, identity: Norm, target: str | None) -> Tensor:
        """Computes the output from x [N, C, H, W], and keeps what the plan says; the output is feature `target` if any.

        identity: batch norm of at least as many channels as the unit's maps have, which changes nothing.
        """
        values, norm = x, identity.part(slice(self.in_channels))
        for number, (each, module) in enumerate(zip(self.convolutions[:-1], self.norms)):
            hidden = each.new_result(step, values)
            statistics = each.forward(step, values, norm, hidden, uses_batch_statistics(module))
            self._keep(step, number, hidden)
            values, norm = hidden, step.bind(module, statistics, _positions(hidden), x.dtype).norm
        number, last = len(self.convolutions) - 1, self.convolutions[-1]
        out = self._new_output(step, target, values)
        if not self._keeps(step, number) and not self._needs_statistics():
            self._bind_shortcut(step, None, out)
            step.bind(self.norms[-1], None, _positions(out), out.dtype)
            self._write(step, x, identity, values, out)
            return out
        result = last.new_result(step, values) if self._keeps(step, number) else out
        self._keep(step, number, result)
        statistics = last.forward(step, values, norm, result, uses_batch_statistics(self.norms[-1]))
        del values, hidden
        bound = step.bind(self.norms[-1], statistics, _positions(out), out.dtype)
        (whole,) = _pieces(out, out.numel())
        wanted = self.projection_norm is not None and uses_batch_statistics(self.projection_norm)
        _, shortcut, statistics = self._shortcut(step, x, identity, whole, wanted)
        bn_add_relu_forward(result, bound.norm, shortcut, self._bind_shortcut(step, statistics, out), out)
        return out

    def _new_output(self, step: ForwardPass, target: str | None, hidden: Tensor) -> Tensor:
        n, _, h, w = hidden.shape
        if target is None:
            return step.workspace.take(hidden, n, self.out_channels, h, w)
        return step.new_feature(target, n, self.out_channels, h, w).data

    def _needs_statistics(self) -> bool:
        """Whether the end of the unit must wait for the statistics of one of its maps."""
        norms = (self.norms[-1], *(() if self.projection_norm is None else (self.projection_norm,)))
        return any(map(uses_batch_statistics, norms))

    def _bind_shortcut(self, step: ForwardPass, statistics: Tensor | None, out: Tensor) -> Norm | None:
        if self.projection_norm is None:
            return None
        return step.bind(self.projection_norm, statistics, _positions(out), out.dtype).norm

    def _plan(self, step: ForwardPass | BackwardPass) -> SectionPlan:
        return step.plan.residual_section(self.section)

    def _keeps(self, step: ForwardPass | BackwardPass, number: int) -> bool:
        """Whether the result of a convolution is kept: most last hidden maps always, others if the plan says so."""
        forward, last_hidden = isinstance(step, ForwardPass), number == len(self.convolutions) - 2
        if isinstance(step, ForwardPass) and (not step.keep or self._plan(step).recompute):
            return False
        if last_hidden:
            return not forward or not self.is_narrow  # little work makes the hidden maps again
        if number == len(self.convolutions) - 1 and isinstance(self.convolutions[number], Pointwise):
            return False  # the widest map, and the cheapest to make again
        return self._plan(step).keeps_bottleneck(self.convolutions[number].conv.in_channels)

    def _keep(self, step: ForwardPass | BackwardPass, number: int, result: Tensor) -> None:
        if self._keeps(step, number):
            step.bottlenecks[self.convolutions[number].conv] = result

    # Maps that backward makes again.

    def ends_without_input(self, step: BackwardPass) -> bool:
        """Whether `ends` does not need the unit's input: there is no projection, and the last hidden map is kept."""
        return self.projection is None and self.convolutions[-2].conv in step.bottlenecks

    def forward_again(self, step: BackwardPass, x: Tensor, identity: Norm) -> Tensor:
        """Makes the output again from x [N, C, H, W], and hidden maps that are not there."""
        hidden = self.hidden(step, len(self.convolutions) - 2, x, identity, keep=True)
        out = self.convolutions[-1].new_result(step, hidden)
        self._write(step, x, identity, hidden, out)
        return out

    def hidden(self, step: BackwardPass, number: int, x: Tensor | None, identity: Norm, keep: bool) -> Tensor:
        """The result of a convolution, kept or made again; with `keep` it stays for later, if the plan allows."""
        conv = self.convolutions[number].conv
        found = step.bottlenecks.get(conv) if keep else step.bottlenecks.pop(conv, None)
        if found is not None:
            return found
        assert x is not None
        if number == 0:
            values, norm = x, identity.part(slice(self.in_channels))
        else:
            values = self.hidden(step, number - 1, x, identity, keep=True)
            norm = step.norms[self.norms[number - 1]].norm
        result = self.convolutions[number].new_result(step, values)
        self.convolutions[number].forward(step, values, norm, result)
        if keep:
            self._keep(step, number, result)
        return result

    def _write(self, step: ForwardPass | BackwardPass, x: Tensor, identity: Norm, hidden: Tensor, out: Tensor) -> None:
        """Writes the output, strip by strip, with batch norms that are bound already."""
        norm, shortcut_norm = step.norms[self.norms[-1]].norm, None
        if self.projection_norm is not None:
            shortcut_norm = step.norms[self.projection_norm].norm
        for strip in self.strips(step, out):
            rows = out[strip.images, :, strip.rows]
            result = self._result(step, hidden, strip, rows)
            _, shortcut, _ = self._shortcut(step, x, identity, strip)
            bn_add_relu_forward(result, norm, shortcut, shortcut_norm, rows)

    def _result(self, step: ForwardPass | BackwardPass, hidden: Tensor, strip: Strip, out: Tensor) -> Tensor:
        """The last convolution's result in a strip, kept or written to `out`."""
        last = self.convolutions[-1]
        kept = step.bottlenecks.get(last.conv)
        if kept is not None:
            return kept[strip.images, :, strip.rows]
        norm = step.norms[self.norms[-2]].norm
        last.forward(step, hidden[strip.images, :, strip.rows], norm, out)
        return out

    def _shortcut(
        self, step: ForwardPass | BackwardPass, x: Tensor, identity: Norm, strip: Strip, statistics: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pixels that the shortcut reads for a strip of the output, its map before batch norm, the map's statistics."""
        read = self.read(step, x, strip.images, strip.rows)
        if self.projection is None:
            return read, read, None
        n, _, h, w = read.shape
        shortcut = step.workspace.take(x, n, self.out_channels, h, w)
        weight, norm = step.weights.plain(self.projection), identity.part(slice(self.in_channels))
        found = bn_relu_conv1x1_forward(read, norm, weight, shortcut, statistics=statistics)
        return read, shortcut, found

    def read(
        self,
        step: ForwardPass | BackwardPass,
        x: Tensor,
        images: slice = slice(None),
        rows: slice = slice(0, None),
    ) -> Tensor:
        """Pixels of x that the shortcut reads for some rows of the output: those of x, or every second one."""
        stride = 1 if self.projection is None else stride_of(self.projection)
        if stride == 1:
            return x[images, :, rows]
        stop = None if rows.stop is None else stride * rows.stop
        strided = x[images, :, stride * rows.start : stop : stride, ::stride]
        return step.workspace.take(x, *strided.shape).copy_(strided)

    def strips(self, step: ForwardPass | BackwardPass, out: Tensor) -> Iterator[Strip]:
        """Strips of the output; one if the last convolution is not 1x1, which would repeat work at their edges."""
        size = self._plan(step).bottleneck_bytes
        if size is None:
            # Backward makes the result for each strip twice, but once if there is one strip.
            whole = out.numel() * out.element_size() <= 2 * step.plan.chunk_bytes
            size = out.numel() * out.element_size() if whole else step.plan.chunk_bytes // 2  # a projection has as much
        pointwise = isinstance(self.convolutions[-1], Pointwise)
        return _pieces(out, size // (out.shape[1] * out.element_size()) if pointwise else out.numel())

    def ends(self, step: BackwardPass, x: Tensor | None, identity: Norm, hidden: Tensor, strip: Strip) -> Ends:
        """Makes the terms of the sum in a strip again; without a projection x is not needed."""
        room = self.convolutions[-1].new_result(step, hidden[strip.images, :, strip.rows])
        result = self._result(step, hidden, strip, room)
        if self.projection is None:
            return Ends(result, None, None)
        assert x is not None
        read, shortcut, _ = self._shortcut(step, x, identity, strip)
        return Ends(result, shortcut, read)


def _pieces(out: Tensor, max_pixels: int) -> Iterator[Strip]:
    n, _, h, w = out.shape
    return strips(n, h, w, max(1, max_pixels), halo=0)


def _positions(x: Tensor) -> int:
    n, _, h, w = x.shape
    return n * h * w
