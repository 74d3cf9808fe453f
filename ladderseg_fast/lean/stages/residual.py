"""A layer of a ResNet: residual units, one after the other.

Forward keeps the last hidden map of each unit, in a bottleneck a quarter as large as the unit's output, and some
outputs in between. Backward makes the other outputs again from these, a few at a time.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor

from ...ops.arguments import Gradient, Norm
from ..passes import BackwardPass, ForwardPass
from .residual_backward import UnitBackward
from .residual_unit import ResidualUnit
from .stage import Size, Stage
from .unit_convolution import stride_of

#: Units from one output that is kept in between to the next. In a ResNet-101's third layer about as many are kept as
#: are made again at a time.
_UNITS_APART = 6


class ResidualStage(Stage):
    """Residual `units` from feature `source`, which is not negative, to feature `target`.

    units: modules like torchvision's BasicBlock or Bottleneck; see ResidualUnit.of.
    """

    overwrites_gradient = True

    def __init__(self, units: Iterable[Any], source: str, target: str) -> None:
        self.units = [ResidualUnit.of(unit, target) for unit in units]
        # Making half of the outputs first, and the others again later, holds fewer of them for 2 % of the time. Half of
        # three is one in the first layer, whose maps are the largest.
        self._at_once = max(1, (min(len(self.units), _UNITS_APART) + (not self.units[0].is_narrow)) // 2)
        self.reads = (source,)
        self.keeps = (source, target)
        self.writes = target
        self.modules = tuple(module for unit in self.units for module in unit.modules)
        self.forward_weights = tuple(use for unit in self.units for use in unit.forward_weights)
        again = tuple(use for unit in self.units for use in unit.weights_again)
        backward = tuple(use for unit in reversed(self.units) for use in unit.backward_weights)
        self.backward_weights = again + backward

    def size(self, *sources: Size) -> Size:
        height, width = sources[-1]
        for stride in (stride_of(each.conv) for unit in self.units for each in unit.convolutions):
            height, width = (height + stride - 1) // stride, (width + stride - 1) // stride
        return height, width

    def forward(self, step: ForwardPass) -> None:
        x = step.features[self.reads[0]].data
        identity = self._identity(step)
        last = len(self.units) - 1
        for number, unit in enumerate(self.units):
            x = unit.forward(step, x, identity, self.writes if number == last else None)
            if step.keep and number != last and self._keeps_output(step, number):
                step.bottlenecks[unit.norms[-1]] = x

    def backward(self, step: BackwardPass) -> None:
        gradient, out = step.gradient_of(self.writes), step.features[self.writes].data
        grad: Gradient | None = gradient.corrected(0, out.shape[1])
        place: Tensor | None = gradient.data
        del gradient
        step.drop_gradient(self.writes)
        identity = self._identity(step)
        first, stop = self._first_wanted(step), len(self.units)
        # A plan that keeps outputs elsewhere has room for those that are made again here.
        roomy = step.plan.residual_section(self.writes).keep_outputs_from is not None
        at_once = len(self.units) if roomy else self._at_once
        while stop > first:
            assert grad is not None and place is not None
            start = self._first_at_once(step, stop)
            low = max(start, stop - at_once)
            work = UnitBackward(self.units[stop - 1], step, identity)
            if early := self.units[stop - 1].ends_without_input(step):  # then `out` is freed before inputs are made
                work.rectify(None, out, grad, place)
                del out, grad, place  # a projection frees the latter
                step.done_with(self.writes, self)
            inputs = self._inputs(step, start, low, stop, identity)
            for number in reversed(range(max(low, first), stop)):
                x = inputs.pop()
                if not early:
                    assert grad is not None and place is not None
                    work = UnitBackward(self.units[number], step, identity)
                    work.rectify(x, out, grad, place)
                    del grad, place
                    step.done_with(self.writes, self)
                early, out = False, x
                wanted = number > first or self.reads[0] in step.needed
                place = work.finish(x, partial(self._target, step, number, x), wanted)
                grad = None if place is None else Gradient(place)
            stop = low
        if self.reads[0] in step.needed and self.units[0].projection is None:
            assert place is not None
            step.hand_on_gradient(self.reads[0], place)

    def _target(self, step: BackwardPass, number: int, x: Tensor) -> tuple[Tensor | None, bool]:
        """Place for the gradient of x, the input of a unit with a projection; and whether the unit must add to it."""
        if number > 0:
            return step.workspace.take(x, *x.shape), False
        gradient, accumulate = step.gradient_for(self.reads[0], x.shape[1])
        return None if gradient is None else gradient.data, accumulate

    def _inputs(self, step: BackwardPass, start: int, low: int, stop: int, identity: Norm) -> list[Tensor]:
        """The inputs of units [low, stop), made again from that of unit `start`, which is kept."""
        if start == 0:
            x = step.features[self.reads[0]].data
        else:
            x = step.bottlenecks[self.units[start - 1].norms[-1]]
        if low == start > 0:
            del step.bottlenecks[self.units[start - 1].norms[-1]]
        inputs = [x]
        for number, unit in enumerate(self.units[start : stop - 1], start=start):
            inputs = [*(inputs if number >= low else []), unit.forward_again(step, inputs[-1], identity)]
        return inputs

    def _keeps_output(self, step: ForwardPass, number: int) -> bool:
        plan = step.plan.residual_section(self.writes)
        all_kept = plan.keeps_output(self.units[number].out_channels)
        return all_kept or (not plan.recompute and (number + 1) % _UNITS_APART == 0)

    def _first_at_once(self, step: BackwardPass, stop: int) -> int:
        """The first of the units up to `stop` whose backward runs next: the output of the one before is kept."""
        kept = (number for number in range(stop - 1, 0, -1) if self.units[number - 1].norms[-1] in step.bottlenecks)
        return next(kept, 0)

    def _first_wanted(self, step: BackwardPass) -> int:
        """The first unit whose backward is needed."""
        if self.reads[0] in step.needed:
            return 0
        modules = {module for module, _ in step.wanted}
        numbers = (number for number, unit in enumerate(self.units) if modules.intersection(unit.modules))
        return next(numbers, len(self.units))

    def _identity(self, step: ForwardPass | BackwardPass) -> Norm:
        results = [each.conv.out_channels for unit in self.units for each in unit.convolutions]
        return step.identity(max(*results, *(unit.in_channels for unit in self.units)))
