"""The dense block without bottlenecks: all layers write into one buffer (ALGORITHMS.md section 1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ...ops.affine_correction import write
from ...ops.arguments import Gradient
from ...ops.backend import real_dtype
from ...ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ...ops.layout import is_channels_last
from ...ops.strip_totals import StripTotals
from ...ops.strips import Strip, strips
from ..batch_norm import uses_batch_statistics
from ..dropout import BoundDropout
from ..feature import Feature, FeatureGradient
from ..joint_batch import BatchNorm
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .bottleneck import dilation_of
from .stage import Stage


class BasicLayer(Protocol):
    """The modules of a layer, such as nn.BasicDenseLayer."""

    @property
    def norm(self) -> BatchNorm: ...
    @property
    def conv(self) -> nn.Conv2d: ...
    @property
    def drop(self) -> nn.Module: ...


@dataclass(frozen=True)
class _Layer:
    """BN - ReLU - conv 3x3 - dropout from the first channels of a feature to those that follow."""

    norm: BatchNorm
    conv: nn.Conv2d
    dropout: BoundDropout | None
    dilation: int
    channels_last: bool

    @staticmethod
    def of(layer: BasicLayer, channels_last: bool) -> "_Layer":
        return _Layer(layer.norm, layer.conv, BoundDropout.now(layer.drop), dilation_of(layer.conv), channels_last)

    @property
    def written(self) -> slice:
        """The channels that the layer writes."""
        first = self.norm.num_features
        return slice(first, first + self.conv.out_channels)

    def forward(self, step: ForwardPass, feature: Feature) -> None:
        bound = step.bind_to_feature(self.norm, feature, self.norm.num_features)
        out = feature.data[:, self.written]
        bias = self._bias(step)
        if bias is not None:
            out.copy_(bias.view(1, -1, 1, 1).expand_as(out))
        statistics = bn_relu_conv3x3_forward(
            feature.channels(self.norm.num_features),
            bound.norm,
            step.weights.forward(self.conv),
            self.dilation,
            out,
            accumulate=bias is not None,
            # The next layer most likely does the same. Those of what dropout leaves are computed when needed.
            statistics=uses_batch_statistics(self.norm) and self.dropout is None,
        )
        if statistics is not None:
            feature.set_statistics(self.written.start, statistics)
        if self.dropout is not None:
            # A convolution of torch's gives such a map if its input or its weight is one.
            mask = self.dropout.apply(out, self.channels_last or is_channels_last(step.weight(self.conv)))
            if step.keep:
                step.bottlenecks[self.dropout.module] = mask

    def _bias(self, step: ForwardPass) -> Tensor | None:
        bias = step.parameter(self.conv, "bias")
        if bias is not None and bias.shape != (
            self.conv.out_channels,
        ):  # only here is a parametrization's result known
            raise ValueError(f"a layer's bias must be [{self.conv.out_channels}], got shape {tuple(bias.shape)}")
        return bias

    def backward(self, step: BackwardPass, feature: Feature, target: FeatureGradient) -> None:
        """Turns the gradient of the channels written into those of the parameters and of the channels read."""
        channels = self.norm.num_features
        bound = step.norms[self.norm]
        grad = self._grad_of_convolution(step, target)
        x, grad_x = feature.channels(channels), target.channels(channels)
        totals = StripTotals()
        for strip in self._strips(step, x):
            n, _, h, w = x[strip.images, :, strip.rows].shape
            part = step.workspace.take(x, n, channels, h, w)
            grad_weight, sums = bn_relu_conv3x3_backward(
                grad.part(strip.images, strip.outer),
                x[strip.images, :, strip.outer],
                bound.norm,
                step.weights.backward(self.conv),
                self.dilation,
                part,
                grad_first_row=strip.inner.start,
                first_row=strip.inner.start,
                want_weight=step.wants(self.conv),
            )
            grad_x[strip.images, :, strip.rows].add_(part)
            totals.add(sums, grad_weight)
        step.add_gradient(self.conv, totals.grad_weight)
        step.finish_norm_of(feature, self.norm, totals.sums, target)

    def _grad_of_convolution(self, step: BackwardPass, target: FeatureGradient) -> Gradient:
        """Gradient of the convolution's result; adds the gradient of the bias."""
        grad = target.corrected(self.written.start, self.written.stop)
        wants_bias = step.wants(self.conv, "bias")
        if self.dropout is None and not wants_bias:
            return grad
        values = write(grad, grad.grad)  # in place: all readers of these channels have added to it
        if self.dropout is not None:
            self.dropout.apply_again(values, step.bottlenecks.pop(self.dropout.module))
        if wants_bias:
            step.add_gradient(self.conv, values.sum(dim=(0, 2, 3), dtype=real_dtype(values.dtype)), "bias")
        return Gradient(values)

    def _strips(self, step: BackwardPass, x: Tensor) -> Iterator[Strip]:
        """Strips of the gradient of x, which exists only until it has been added."""
        n, c, h, w = x.shape
        max_pixels = max(1, step.plan.transition_up_bytes // (c * x.element_size()))
        return strips(n, h, w, max_pixels, halo=self.dilation)


class BasicDenseBlockStage(Stage):
    """The `layers` of a block on the feature `name`, whose first channels an earlier stage has written.

    channels_last: whether the plain block would read a map in this layout.
    """

    def __init__(self, layers: Sequence[BasicLayer], name: str, channels_last: bool = False) -> None:
        self.layers = [_Layer.of(layer, channels_last) for layer in layers]
        self.reads = self.keeps = (name,)
        self.writes = name
        self.modules = tuple(module for layer in self.layers for module in (layer.norm, layer.conv))
        self.forward_weights = tuple(WeightUse(layer.conv, Form.forward) for layer in self.layers)
        self.backward_weights = tuple(WeightUse(layer.conv, Form.backward) for layer in reversed(self.layers))

    def forward(self, step: ForwardPass) -> None:
        for layer in self.layers:
            layer.forward(step, step.features[self.writes])

    def backward(self, step: BackwardPass) -> None:
        for layer in reversed(self.layers):
            layer.backward(step, step.features[self.writes], step.gradient_of(self.writes))
