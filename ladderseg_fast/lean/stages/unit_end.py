"""Backward of the end of a residual unit: the sum, its ReLU, and the last convolutions before it.

With m the gradient of the sum of both terms, the gradient of the last convolution's result is scale * (m - a - b * x):
batch norm's correction as everywhere (ALGORITHMS.md section 4), with its scale outside. The scale goes into the weight
that the gradient is multiplied with next. So m serves the unit, its shortcut and, if that has a batch norm of its own,
this one too, and it takes the place of the output's gradient.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ...ops.arguments import BnSums, Correction, Gradient, Norm
from ...ops.backend import backend_of
from ...ops.bn_add_relu import bn_add_relu_backward
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward
from ...ops.strip_totals import StripTotals
from ..joint_batch import group_of
from ..passes import BackwardPass
from .residual_unit import Ends, ResidualUnit
from .unit_convolution import Pointwise
from .unmade_result import UnmadeResult

#: Least channels of the last hidden map, and least pixels per channel that is read, from which products without the
#: result take less time than making it does.
_CHANNELS, _PIXELS_PER_CHANNEL = 32, 8


class UnitEnd(ABC):
    """The end of `unit`: `rectify`, then `backward`.

    identity: batch norm of at least as many channels as the unit's maps have, which changes nothing.
    hidden: the last hidden map.
    """

    @staticmethod
    def of(unit: ResidualUnit, step: BackwardPass, identity: Norm, hidden: Tensor) -> "UnitEnd":
        """The end in the way that takes less time."""
        n, channels, h, w = hidden.shape
        read = max(channels, 0 if unit.projection is None else unit.in_channels)
        large = channels >= _CHANNELS and n * h * w >= _PIXELS_PER_CHANNEL * read
        # On a GPU traffic takes the time, and the two matrices would be torch's, whose calls take the host's. If more
        # processes than this one share the batch, deviations from its means are not known here. Where only shapes are
        # computed, a batch norm has no joint batch, but the group of processes of the step that is planned.
        norms = (unit.norms[-1], *(() if unit.projection_norm is None else (unit.projection_norm,)))
        own = all(step.norms[norm].joint is None and group_of(norm, torch.device("cpu")) is None for norm in norms)
        here = own and not backend_of(hidden.device).on_gpu
        products = here and large and isinstance(unit.convolutions[-1], Pointwise)
        return (_UnmadeEnd if products else _MadeEnd)(unit, step, identity, hidden)

    def __init__(self, unit: ResidualUnit, step: BackwardPass, identity: Norm, hidden: Tensor) -> None:
        self._unit, self._step, self._identity, self._hidden = unit, step, identity, hidden

    @abstractmethod
    def rectify(self, x: Tensor | None, out: Tensor, grad: Gradient, place: Tensor) -> None:
        """Turns `grad` of the unit's output `out` [N, M, h, w] into that of the sum, m, in `place`: that of grad.grad.

        x: the unit's input; None only if unit.ends_without_input(step).
        """

    @abstractmethod
    def backward(self, x: Tensor, grad: Tensor, grad_read: Tensor | None, accumulate: bool) -> tuple[Tensor, BnSums]:
        """Runs the backward of the last convolution and of the projection, which reads what `grad_read` is for.

        grad: m.
        Returns the gradient of the last hidden map, without its batch norm's correction, and the sums for that.
        """

    def _norm_of_hidden(self) -> Norm:
        return self._step.norms[self._unit.norms[-2]].norm


class _UnmadeEnd(UnitEnd):
    """The end without the results of the last convolution and of the projection."""

    def rectify(self, x: Tensor | None, out: Tensor, grad: Gradient, place: Tensor) -> None:
        unit, step, identity = self._unit, self._step, self._identity
        # The sums with deviations are not used, so any map can be the input.
        sums, _ = bn_add_relu_backward(grad, out, out, identity.part(slice(out.shape[1])), None, None, None, place)
        last, norm = unit.convolutions[-1].conv, self._norm_of_hidden()
        self._result = UnmadeResult(step, last, unit.norms[-1], self._hidden, norm, identity)
        self._result.finish_norm(place, sums.masked)
        if unit.projection is not None and unit.projection_norm is not None:
            assert x is not None
            read, norm = unit.read(step, x), identity.part(slice(unit.in_channels))
            self._shortcut = UnmadeResult(step, unit.projection, unit.projection_norm, read, norm, identity)
            self._shortcut.finish_norm(place, sums.masked)

    def backward(self, x: Tensor, grad: Tensor, grad_read: Tensor | None, accumulate: bool) -> tuple[Tensor, BnSums]:
        grad_hidden = self._step.workspace.take(self._hidden, *self._hidden.shape)
        sums = self._result.backward(grad_hidden, accumulate=False)
        if grad_read is not None:
            self._shortcut.backward(grad_read, accumulate)
        return grad_hidden, sums


class _MadeEnd(UnitEnd):
    """The end with these results, made again strip by strip."""

    def __init__(self, unit: ResidualUnit, step: BackwardPass, identity: Norm, hidden: Tensor) -> None:
        super().__init__(unit, step, identity, hidden)
        self._ends: Ends | None = None
        self._correction: Correction | None = None
        self._shortcut_correction: Correction | None = None

    def rectify(self, x: Tensor | None, out: Tensor, grad: Gradient, place: Tensor) -> None:
        unit, step = self._unit, self._step
        ones = self._identity.scale[: unit.out_channels]
        bound = step.norms[unit.norms[-1]].with_scale(ones)
        shortcut_bound = None if unit.projection_norm is None else step.norms[unit.projection_norm].with_scale(ones)
        totals, shortcut_totals = StripTotals(), StripTotals()
        parts = list(unit.strips(step, out))
        for strip in parts:
            self._ends = None  # frees those of the strip before
            self._ends = unit.ends(step, x, self._identity, self._hidden, strip)
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
        self._correction = step.finish_norm(unit.norms[-1], totals.sums, bound)
        if unit.projection_norm is not None:
            self._shortcut_correction = step.finish_norm(unit.projection_norm, shortcut_totals.sums, shortcut_bound)

    def backward(self, x: Tensor, grad: Tensor, grad_read: Tensor | None, accumulate: bool) -> tuple[Tensor, BnSums]:
        unit, step, hidden = self._unit, self._step, self._hidden
        last, norm = unit.convolutions[-1], self._norm_of_hidden()
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

    def _scaled(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        """The weight [M, C, k, k] of a convolution, each output multiplied by the scale of `norm`."""
        scale = self._step.norms[norm].norm.scale
        return (self._step.weight(conv) * scale.view(-1, 1, 1, 1)).to(self._step.like.dtype)

    def _add_scaled(self, conv: nn.Conv2d, gradient: Tensor | None, norm: nn.BatchNorm2d) -> None:
        """Adds the gradient of a weight that has met a gradient without the scale of `norm`."""
        if gradient is not None:
            gradient.mul_(self._step.norms[norm].norm.scale.view(-1, 1, 1, 1))
            self._step.add_gradient(conv, gradient)
