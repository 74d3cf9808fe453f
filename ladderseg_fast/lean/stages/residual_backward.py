"""The backward of one residual unit."""

from collections.abc import Callable

from torch import Tensor

from ...ops.arguments import BnSums, Gradient, Norm
from ..passes import BackwardPass
from .residual_unit import ResidualUnit
from .unit_convolution import stride_of
from .unit_end import UnitEnd

#: Function that returns the gradient of a unit's input, and whether the unit must add to it or else overwrite it.
Target = Callable[[], tuple[Tensor | None, bool]]


class UnitBackward:
    """The backward of `unit`: `rectify`, then `finish`.

    identity: batch norm of at least as many channels as the unit's maps have, which changes nothing.
    """

    def __init__(self, unit: ResidualUnit, step: BackwardPass, identity: Norm) -> None:
        self._unit, self._step, self._identity = unit, step, identity
        self._hidden: Tensor | None = None
        self._grad: Tensor | None = None
        self._end: UnitEnd | None = None

    def rectify(self, x: Tensor | None, out: Tensor, grad: Gradient, place: Tensor) -> None:
        """Turns `grad` of the unit's output `out` [N, M, h, w] into that of the sum: see UnitEnd.rectify."""
        unit, step = self._unit, self._step
        self._hidden = unit.hidden(step, len(unit.convolutions) - 2, x, self._identity, keep=False)
        self._end = UnitEnd.of(unit, step, self._identity, self._hidden)
        self._end.rectify(x, out, grad, place)
        self._grad = place

    def finish(self, x: Tensor, target: Target, wanted: bool) -> Tensor | None:
        """Makes the gradients of the parameters, and that of the input x [N, C, H, W]; returns the latter.

        Without a projection the gradient of x takes the place of that of the sum. With one `target` is asked for its
        place.

        wanted: whether the gradient of x is needed.
        """
        unit = self._unit
        assert self._end is not None and self._grad is not None
        stride = 1 if unit.projection is None else stride_of(unit.projection)
        grad_x, accumulate = (self._grad if wanted else None), True
        grad_read = None
        if unit.projection is not None and wanted:
            if stride == 1:
                grad_read, accumulate = target()
            else:
                n, _, h, w = self._grad.shape
                grad_read, accumulate = self._step.workspace.take(x, n, unit.in_channels, h, w), False
        grad_hidden, sums = self._end.backward(x, self._grad, grad_read, accumulate)
        self._end = None
        self._step.bottlenecks.pop(unit.convolutions[-1].conv, None)
        accumulate = True
        if unit.projection is not None:
            self._grad = None  # frees it
            grad_x = grad_read
            if wanted and stride > 1:
                grad_x, accumulate = target()
            if stride > 1 and grad_x is not None and grad_read is not None:
                read = grad_x[:, :, ::stride, ::stride]
                if accumulate:
                    read += grad_read
                else:
                    grad_x.zero_()
                    read.copy_(grad_read)
                accumulate = True
            grad_read = None  # frees it before the unit's largest maps are there
        self._inner(x, grad_hidden, sums, grad_x, accumulate)
        return grad_x

    def _inner(self, x: Tensor, grad: Tensor, sums: BnSums, grad_x: Tensor | None, accumulate: bool) -> None:
        """Runs the backward of the convolutions before the last, given the gradient of the last hidden map."""
        unit, step = self._unit, self._step
        result, self._hidden = self._hidden, None
        assert result is not None
        for number in reversed(range(len(unit.convolutions) - 1)):
            each = unit.convolutions[number]
            gradient = Gradient(grad, result, step.finish_norm(unit.norms[number], sums))
            if number == 0:
                norm = self._identity.part(slice(unit.in_channels))
                grad_weight, _ = each.backward(step, gradient, x, norm, grad_x, accumulate)
            else:
                values = unit.hidden(step, number - 1, x, self._identity, keep=False)
                grad = step.workspace.take(values, *values.shape)
                norm = step.norms[unit.norms[number - 1]].norm
                grad_weight, found = each.backward(step, gradient, values, norm, grad)
                assert found is not None
                sums, result = found, values
            step.add_gradient(each.conv, grad_weight)
