"""The convolutions of residual units: BN - ReLU - convolution, 1x1 or 3x3, with stride 1 or 2.

A unit's first convolution reads a map that another ReLU has made, through a batch norm that changes nothing
(step.identity): it is not negative, so the ReLU changes nothing either. Where it is 0, this ReLU stops the gradient, as
the one before would.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from ...ops.arguments import BnSums, Gradient, Norm
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward, bn_relu_conv1x1_forward
from ...ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ...ops.bn_relu_patches import bn_relu_patches_backward, bn_relu_patches_forward
from ...ops.running_statistics import RunningStatistics
from ...ops.strip_totals import StripTotals
from ...ops.strips import Strip, strips
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .bottleneck import dilation_of


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
    """In the forward pass; later changes do not affect the backward of that pass."""

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
        used = step.weights.backward(self.conv) if weight is None else weight
        direct = grad_x is not None and not accumulate
        data = grad_x if direct else step.workspace.take(x, *x.shape)
        assert data is not None
        result = bn_relu_conv3x3_backward(grad, x, norm, used, self.dilation, data, want_weight=step.wants(self.conv))
        if grad_x is not None and not direct:
            grad_x += data
        return result


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
        weight = self._weight(step)
        identity = step.identity(weight.shape[1])
        data = step.workspace.take(x, *x.shape) if grad_x is not None and accumulate else grad_x
        totals = StripTotals()
        for strip in self._strips(step, grad.grad, x):
            patches = self._patches(step, x, norm, strip, grad.grad)
            grad_patches = None if data is None else step.workspace.take(patches, *patches.shape)
            grad_weight, sums = bn_relu_conv1x1_backward(
                grad.part(strip.images, strip.rows),
                patches,
                identity,
                weight,
                grad_patches,
                want_weight=step.wants(self.conv),
            )
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
            totals.add(sums, grad_weight)
        if grad_x is not None and data is not grad_x:
            assert data is not None
            grad_x += data
        return self._gradient_of_weight(totals.grad_weight), None if grad_x is None else totals.sums

    def _weight(self, step: ForwardPass | BackwardPass) -> Tensor:
        """The weight [M, 9 * C, 1, 1] for patches: their channels are ordered by tap."""
        weight = step.weights.plain(self.conv)
        return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1, 1, 1)

    def _gradient_of_weight(self, gradient: Tensor | None) -> Tensor | None:
        """The weight's gradient [M, C, 3, 3] from that of `_weight`."""
        if gradient is None:
            return None
        outputs = gradient.shape[0]
        return gradient.view(outputs, 3, 3, -1).permute(0, 3, 1, 2).contiguous()

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


def stride_of(conv: nn.Conv2d) -> int:
    """Stride of `conv`, the same in both directions."""
    return _number(conv.stride)


def size_of(conv: nn.Conv2d) -> int:
    """Size of the kernel of `conv`, the same in both directions."""
    return _number(conv.kernel_size)


def _number(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else int(value[0])
