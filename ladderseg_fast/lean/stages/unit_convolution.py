"""The convolutions of residual units: BN - ReLU - convolution, 1x1 or 3x3, with stride 1 or 2.

A unit's first convolution reads a map that another ReLU has made, through a batch norm that changes nothing
(step.identity): it is not negative, so the ReLU changes nothing either. Where it is 0, this ReLU stops the gradient, as
the one before would.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...ops.arguments import BnSums, Gradient, Norm
from ...ops.backend import backend_of, real_dtype
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward, bn_relu_conv1x1_forward
from ...ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ...ops.bn_relu_patches import bn_relu_patches_backward, bn_relu_patches_forward
from ...ops.running_statistics import RunningStatistics
from ...ops.strip_totals import StripTotals
from ...ops.strips import Strip, strips
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .bottleneck import dilation_of

#: Most numbers of a weight, and multiple of channels, for which a backward runs at a time on a CPU.
_WEIGHT_AT_ONCE, _ROUND = 640 << 10, 64


@dataclass(frozen=True)
class UnitConvolution(ABC):
    """A convolution of a residual unit."""

    conv: nn.Conv2d

    @staticmethod
    def of(conv: nn.Conv2d) -> "UnitConvolution":
        if size_of(conv) == 1:
            return Pointwise(conv)
        return Patched(conv) if stride_of(conv) == 2 else Spatial(conv, dilation_of(conv))

    @property
    def forward_use(self) -> WeightUse:
        """The weight that forward reads."""
        return WeightUse(self.conv, Form.plain)

    @property
    def backward_use(self) -> WeightUse:
        """The weight that backward reads."""
        return WeightUse(self.conv, Form.plain)

    def new_result(self, step: ForwardPass | BackwardPass, x: Tensor) -> Tensor:
        """Room for the result on x [N, C, H, W]."""
        (n, _, h, w), stride = x.shape, stride_of(self.conv)
        return step.workspace.take(x, n, self.conv.out_channels, -(-h // stride), -(-w // stride))

    @abstractmethod
    def forward(
        self, step: ForwardPass | BackwardPass, x: Tensor, norm: Norm, out: Tensor, statistics: bool = False
    ) -> Tensor | None:
        """Computes out from x [N, C, H, W]; with `statistics`, returns those of out, [2, M]."""

    @abstractmethod
    def backward(
        self,
        step: BackwardPass,
        grad: Gradient,
        x: Tensor,
        norm: Norm,
        grad_x: Tensor | None,
        accumulate: bool = False,
        weight: Tensor | None = None,
    ) -> tuple[Tensor | None, BnSums | None]:
        """Computes grad_x (+)= norm.scale * m from grad [N, M, h, w]; returns the weight's gradient and the sums.

        grad_x: None if it and the sums are not needed.
        weight: the weight to multiply with, if not the convolution's own.
        """


@dataclass(frozen=True)
class Pointwise(UnitConvolution):
    """A 1x1 convolution with stride 1."""

    def forward(
        self, step: ForwardPass | BackwardPass, x: Tensor, norm: Norm, out: Tensor, statistics: bool = False
    ) -> Tensor | None:
        return bn_relu_conv1x1_forward(x, norm, step.weights.plain(self.conv), out, statistics=statistics)

    def backward(
        self,
        step: BackwardPass,
        grad: Gradient,
        x: Tensor,
        norm: Norm,
        grad_x: Tensor | None,
        accumulate: bool = False,
        weight: Tensor | None = None,
    ) -> tuple[Tensor | None, BnSums | None]:
        weight = step.weights.plain(self.conv) if weight is None else weight
        return bn_relu_conv1x1_backward(grad, x, norm, weight, grad_x, accumulate, want_weight=step.wants(self.conv))


@dataclass(frozen=True)
class Spatial(UnitConvolution):
    """A 3x3 convolution with stride 1."""

    dilation: int
    """Dilation in the forward pass; later changes do not affect the backward of that pass."""

    @property
    def forward_use(self) -> WeightUse:
        return WeightUse(self.conv, Form.forward)

    @property
    def backward_use(self) -> WeightUse:
        return WeightUse(self.conv, Form.backward)

    def forward(
        self, step: ForwardPass | BackwardPass, x: Tensor, norm: Norm, out: Tensor, statistics: bool = False
    ) -> Tensor | None:
        weight = step.weights.forward(self.conv)
        return bn_relu_conv3x3_forward(x, norm, weight, self.dilation, out, statistics=statistics)

    def backward(
        self,
        step: BackwardPass,
        grad: Gradient,
        x: Tensor,
        norm: Norm,
        grad_x: Tensor | None,
        accumulate: bool = False,
        weight: Tensor | None = None,
    ) -> tuple[Tensor | None, BnSums | None]:
        direct = grad_x is not None and not accumulate
        data = grad_x if direct else step.workspace.take(x, *x.shape)
        assert data is not None
        parts = _channels_at_once(x, 9 * self.conv.out_channels)
        gradient, found = _WeightGradient(step, self.conv, len(parts)), []
        for part in parts:
            grad_weight, sums = bn_relu_conv3x3_backward(
                grad,
                x[:, part],
                norm.part(part),
                step.weights.backward(self.conv, part) if weight is None else weight[:, part],
                self.dilation,
                data[:, part],
                want_weight=step.wants(self.conv),
            )
            gradient.put(part, grad_weight)
            found.append(sums)
        if grad_x is not None and not direct:
            grad_x += data
        return gradient.value, _joined(found)


@dataclass(frozen=True)
class Patched(UnitConvolution):
    """A 3x3 convolution with stride 2: a product with the patches that it reads, strip by strip."""

    def forward(
        self, step: ForwardPass | BackwardPass, x: Tensor, norm: Norm, out: Tensor, statistics: bool = False
    ) -> Tensor | None:
        weight = self._weight(step)
        identity = step.identity(weight.shape[1])
        running = RunningStatistics()
        for strip in self._strips(step, out, x):
            patches = self._patches(step, x, norm, strip, out)
            rows = out[strip.images, :, strip.rows]
            found = bn_relu_conv1x1_forward(patches, identity, weight, rows, statistics=statistics)
            if found is not None:
                running.add(rows.numel() // rows.shape[1], found)
        return running.result() if statistics else None

    def backward(
        self,
        step: BackwardPass,
        grad: Gradient,
        x: Tensor,
        norm: Norm,
        grad_x: Tensor | None,
        accumulate: bool = False,
        weight: Tensor | None = None,
    ) -> tuple[Tensor | None, BnSums | None]:
        assert weight is None, "a unit ends with a convolution of stride 1"
        identity = step.identity(9 * x.shape[1])
        data = step.workspace.take(x, *x.shape) if grad_x is not None and accumulate else grad_x
        taps_at_once = _taps_at_once(x, self.conv.out_channels)
        gradient, totals = _WeightGradient(step, self.conv, len(taps_at_once)), StripTotals()
        weight = self._weight(step)
        for strip in self._strips(step, grad.grad, x):
            patches = self._patches(step, x, norm, strip, grad.grad)
            grad_patches = None if data is None else step.workspace.take(patches, *patches.shape)
            for taps in taps_at_once:
                part = slice(taps.start * x.shape[1], taps.stop * x.shape[1])
                grad_weight, _ = bn_relu_conv1x1_backward(
                    grad.part(strip.images, strip.rows),
                    patches[:, part],
                    identity.part(part),
                    weight[:, part],
                    None if grad_patches is None else grad_patches[:, part],
                    want_weight=step.wants(self.conv),
                )
                gradient.add_taps(taps, grad_weight)
            if data is not None and grad_patches is not None:
                rows, above = _rows_read(strip, x)
                sums = bn_relu_patches_backward(
                    grad_patches,
                    x[strip.images, :, rows],
                    norm,
                    data[strip.images, :, rows],
                    first_row=above,
                    add_first_row=above > 0,
                )
                totals.add(sums)
        if grad_x is not None and data is not grad_x:
            assert data is not None
            grad_x += data
        return gradient.value, None if grad_x is None else totals.sums

    def _weight(self, step: ForwardPass | BackwardPass) -> Tensor:
        """The weight [M, 9 * C, 1, 1] for patches, whose channels are ordered by tap."""
        weight = step.weights.plain(self.conv)
        outputs = weight.shape[0]
        return weight.reshape(outputs, -1, 9).permute(0, 2, 1).reshape(outputs, -1, 1, 1)

    def _strips(self, step: ForwardPass | BackwardPass, out: Tensor, x: Tensor) -> Iterator[Strip]:
        """Strips of the result, as large as the plan lets patches be."""
        n, _, h, w = out.shape
        return strips(n, h, w, max(1, step.plan.chunk_bytes // (9 * x.shape[1] * x.element_size())), halo=0)

    def _patches(self, step: ForwardPass | BackwardPass, x: Tensor, norm: Norm, strip: Strip, out: Tensor) -> Tensor:
        rows, above = _rows_read(strip, x)
        read = x[strip.images, :, rows]
        height = strip.rows.stop - strip.rows.start
        patches = step.workspace.take(x, read.shape[0], 9 * x.shape[1], height, out.shape[3])
        bn_relu_patches_forward(read, norm, patches, first_row=above)
        return patches


def _rows_read(strip: Strip, x: Tensor) -> tuple[slice, int]:
    """Rows of `x` that the strip's patches read, and how many of them lie above the centres of the first ones."""
    above = min(1, strip.rows.start)
    return slice(2 * strip.rows.start - above, min(x.shape[2], 2 * strip.rows.stop)), above


class _WeightGradient:
    """The gradient of a 3x3 convolution's weight, put together from parts.

    It outlives the parts. So it is allocated before them, or the system's heap would keep their place empty below it.
    """

    def __init__(self, step: BackwardPass, conv: nn.Conv2d, parts: int) -> None:
        self._shape = conv.out_channels, conv.in_channels, 3, 3
        self._like, self._taps = step.like, 0
        self.value: Tensor | None = None
        if parts > 1 and step.wants(conv):
            self._room()

    def put(self, channels: slice, part: Tensor | None) -> None:
        """Takes over the gradient of some input channels."""
        if part is None:
            return
        if part.shape == self._shape:
            self.value = part
        else:
            self._room()[:, channels] = part

    def add_taps(self, taps: slice, part: Tensor | None) -> None:
        """Adds the gradient [M, taps * C, 1, 1] of some taps; the first strip comes to each tap first."""
        if part is None:
            return
        outputs, channels = self._shape[:2]
        place = self._room().view(outputs, channels, 9)[:, :, taps]
        part = part.view(outputs, -1, channels).permute(0, 2, 1)
        if taps.stop > self._taps:
            self._taps = taps.stop
            place.copy_(part)
        else:
            place.add_(part)

    def _room(self) -> Tensor:
        if self.value is None:
            dtype = real_dtype(self._like.dtype)
            self.value = torch.empty(self._shape, dtype=dtype, device=self._like.device)
        return self.value


def _channels_at_once(x: Tensor, factor: int) -> list[slice]:
    """Ranges of the channels of x for which a backward runs at a time: on a CPU its threads hold gradients of weights.

    factor: numbers of a weight per channel of x.
    """
    channels = x.shape[1]
    most = channels if backend_of(x.device).on_gpu else max(_ROUND, _WEIGHT_AT_ONCE // factor // _ROUND * _ROUND)
    return [slice(start, min(start + most, channels)) for start in range(0, channels, most)]


def _taps_at_once(x: Tensor, outputs: int) -> list[slice]:
    """Ranges of the nine taps, likewise."""
    most = 9 if backend_of(x.device).on_gpu else max(1, min(9, _WEIGHT_AT_ONCE // (outputs * x.shape[1])))
    return [slice(start, min(start + most, 9)) for start in range(0, 9, most)]


def _joined(sums: list[BnSums]) -> BnSums:
    """The sums of all channels from those of the parts."""
    if len(sums) == 1:
        return sums[0]
    return BnSums(torch.cat([each.masked for each in sums]), torch.cat([each.centred for each in sums]))


def stride_of(conv: nn.Conv2d) -> int:
    """Stride of `conv`, the same in both directions."""
    return _number(conv.stride)


def size_of(conv: nn.Conv2d) -> int:
    """Size of the kernel of `conv`, the same in both directions."""
    return _number(conv.kernel_size)


def _number(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else int(value[0])
