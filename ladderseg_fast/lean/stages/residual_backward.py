"""The backward of one residual unit.

With m the gradient of the sum of both terms, the gradient of the last convolution's result is scale * (m - a - b * x):
batch norm's correction as everywhere (ALGORITHMS.md section 4), with its scale outside. The scale goes into the weight
that the gradient is multiplied with next. So m serves the unit, its shortcut and, if that has a batch norm of its own,
this one too, and it takes the place of the output's gradient.
"""

from collections.abc import Callable

from torch import Tensor, nn

from ...ops.arguments import BnSums, Correction, Gradient, Norm
from ...ops.bn_add_relu import bn_add_relu_backward
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward
from ...ops.strip_totals import StripTotals
from ..passes import BackwardPass
from .residual_unit import Ends, ResidualUnit
from .unit_convolution import stride_of

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
        self._ends: Ends | None = None
        self._correction: Correction | None = None
        self._shortcut_correction: Correction | None = None

    def rectify(self, x: Tensor | None, out: Tensor, grad: Gradient, place: Tensor) -> None:
        """Turns `grad` of the unit's output `out` [N, M, h, w] into that of the sum, m, in `place`: that of grad.grad.

        x: the unit's input; None only if unit.ends_without_input(step).
        """
        unit, step = self._unit, self._step
        hidden = self._hidden = unit.hidden(step, len(unit.convolutions) - 2, x, self._identity, keep=False)
        ones = self._identity.scale[: unit.out_channels]
        bound = step.norms[unit.norms[-1]].with_scale(ones)
        shortcut_bound = None if unit.projection_norm is None else step.norms[unit.projection_norm].with_scale(ones)
        totals, shortcut_totals = StripTotals(), StripTotals()
        parts = list(unit.strips(step, out))
        for strip in parts:
            self._ends = None  # frees those of the strip before
            self._ends = unit.ends(step, x, self._identity, hidden, strip)
            sums, shortcut_sums = bn_add_relu_backward(
                grad.part(strip.images, strip.rows),
                out[strip.images, :, strip.rows],
                self._ends.result,
                bound.norm,
                self._ends.shortcut,
                None if shortcut_bound is None else shortcut_bound.norm,
                None,
                place[strip.images, :, strip.rows],
            )
            totals.add(sums)
            if shortcut_sums is not None:
                shortcut_totals.add(shortcut_sums)
        if len(parts) > 1:
            self._ends = None
        self._grad = place
        self._correction = step.finish_norm(unit.norms[-1], totals.sums, bound)
        if unit.projection_norm is not None:
            self._shortcut_correction = step.finish_norm(unit.projection_norm, shortcut_totals.sums, shortcut_bound)

    def finish(self, x: Tensor, target: Target, wanted: bool) -> Tensor | None:
        """Makes the gradients of the parameters, and that of the input x [N, C, H, W]; returns the latter.

        Without a projection the gradient of x takes the place of m. With one `target` is asked for its place.

        wanted: whether the gradient of x is needed.
        """
        unit = self._unit
        stride = 1 if unit.projection is None else stride_of(unit.projection)
        grad_x, accumulate = (self._grad if wanted else None), True
        grad_read = None
        if unit.projection is not None and wanted:
            assert self._grad is not None
            if stride == 1:
                grad_read, accumulate = target()
            else:
                n, _, h, w = self._grad.shape
                grad_read, accumulate = self._step.workspace.take(x, n, unit.in_channels, h, w), False
        grad_hidden, sums = self._end(x, grad_read, accumulate)
        accumulate = True
        if unit.projection is not None:
            self._grad = None  # frees it
            grad_x = grad_read
            if wanted and stride > 1:
                grad_x, accumulate = target()
        self._inner(x, grad_hidden, sums, grad_x, accumulate)
        if stride > 1 and grad_x is not None and grad_read is not None:
            grad_x[:, :, ::stride, ::stride] += grad_read
        return grad_x

    def _end(self, x: Tensor, grad_read: Tensor | None, accumulate: bool) -> tuple[Tensor, BnSums]:
        """Runs the backward of the last convolution and of the projection, which reads what `grad_read` is for.

        Returns the gradient of the last hidden map, without its batch norm's correction, and the sums for that.
        """
        unit, step, hidden, grad = self._unit, self._step, self._hidden, self._grad
        assert grad is not None and hidden is not None
        last, norm = unit.convolutions[-1], step.norms[unit.norms[-2]].norm
        weight = self._scaled(last.conv, unit.norms[-1])
        shortcut_weight = None
        if unit.projection is not None and unit.projection_norm is not None:
            shortcut_weight = self._scaled(unit.projection, unit.projection_norm)
        grad_hidden = step.workspace.take(hidden, *hidden.shape)
        totals, shortcut_totals = StripTotals(), StripTotals()
        parts = list(unit.strips(step, grad))
        for strip in parts:
            if len(parts) > 1:
                self._ends = None  # frees those of the strip before
                self._ends = unit.ends(step, x, self._identity, hidden, strip)
            ends = self._ends
            assert ends is not None
            rows = grad[strip.images, :, strip.rows]
            grad_weight, sums = last.backward(
                step,
                Gradient(rows, ends.result, self._correction),
                hidden[strip.images, :, strip.rows],
                norm,
                grad_hidden[strip.images, :, strip.rows],
                weight=weight,
            )
            assert sums is not None
            totals.add(sums, grad_weight)
            if shortcut_weight is not None:
                grad_rows = None if grad_read is None else grad_read[strip.images, :, strip.rows]
                grad_weight, sums = self._project(rows, ends, shortcut_weight, grad_rows, accumulate)
                shortcut_totals.add(sums, grad_weight)
            del ends
        self._ends = None
        step.bottlenecks.pop(last.conv, None)
        self._add_scaled(last.conv, totals.grad_weight, unit.norms[-1])
        if unit.projection is not None and unit.projection_norm is not None:
            self._add_scaled(unit.projection, shortcut_totals.grad_weight, unit.projection_norm)
        return grad_hidden, totals.sums

    def _project(
        self, grad: Tensor, ends: Ends, weight: Tensor, grad_read: Tensor | None, accumulate: bool
    ) -> tuple[Tensor | None, BnSums]:
        """Runs the backward of the projection in a strip, given the rows of m and of the gradient to write."""
        unit, step = self._unit, self._step
        assert unit.projection is not None and ends.read is not None
        return bn_relu_conv1x1_backward(
            Gradient(grad, ends.shortcut, self._shortcut_correction),
            ends.read,
            self._identity.part(slice(unit.in_channels)),
            weight,
            grad_read,
            accumulate,
            want_weight=step.wants(unit.projection),
        )

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

    def _scaled(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        """The weight [M, C, k, k] of a convolution, each output multiplied by the scale of `norm`."""
        scale = self._step.norms[norm].norm.scale
        return (self._step.weight(conv) * scale.view(-1, 1, 1, 1)).to(self._step.like.dtype)

    def _add_scaled(self, conv: nn.Conv2d, gradient: Tensor | None, norm: nn.BatchNorm2d) -> None:
        """Adds the gradient of a weight that has met a gradient without the scale of `norm`."""
        if gradient is not None:
            gradient.mul_(self._step.norms[norm].norm.scale.view(-1, 1, 1, 1))
            self._step.add_gradient(conv, gradient)
