"""BN - ReLU - conv 1x1 - BN - ReLU - conv 3x3 on a feature: a dense layer, and the context layer.

The result of the 1x1 convolution is not kept: backward makes it again from the feature (ALGORITHMS.md section 2).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from ...ops import convolutions, kernels
from ...ops.kernels import CorrectedGradient, Norm
from ...ops.strips import strips
from ..batch_norm import uses_batch_statistics
from ..feature import Feature
from ..passes import BackwardPass, ForwardPass


@dataclass(frozen=True)
class Bottleneck:
    """The four modules, as nn.DenseLayer and nn.Context name them."""

    norm1: nn.BatchNorm2d
    conv1: nn.Conv2d
    norm2: nn.BatchNorm2d
    conv2: nn.Conv2d

    @staticmethod
    def of(module: nn.Module) -> "Bottleneck":
        return Bottleneck(module.norm1, module.conv1, module.norm2, module.conv2)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return self.norm1, self.conv1, self.norm2, self.conv2

    @property
    def dilation(self) -> int:
        return self.conv2.dilation[0]

    def forward(self, step: ForwardPass, target: Feature, source: Feature, first: int) -> None:
        """Channels of `target` from `first` on, from the first channels of `source`, as many as norm1 has."""
        bound = step.bind_to_feature(self.norm1, source, self.norm1.num_features)
        out = target.data[:, first : first + self.conv2.out_channels]
        keep = step.keep and step.plan.keeps_bottleneck(self.norm1.num_features)
        if uses_batch_statistics(self.norm2) or keep:
            statistics = self._forward_at_once(step, source, bound.norm, out, keep)
            if statistics is not None:
                target.set_statistics(first, *statistics)
        else:
            self._forward_in_strips(step, source, bound.norm, out)

    def _forward_at_once(
        self, step: ForwardPass, source: Feature, norm: Norm, out: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor] | None:
        """With the whole hidden map, whose statistics the second batch norm may wait for; returns those of `out`.

        Nobody may want these, if the second batch norm does not use its own: the readers of `out` are most likely like
        the layer itself.
        """
        x = source.channels(self.norm1.num_features)
        wanted = uses_batch_statistics(self.norm2)
        n, _, h, w = x.shape
        hidden = step.workspace.take(x, n, self.conv1.out_channels, h, w, spread=True)
        statistics = kernels.bn_relu_conv1x1_forward(x, norm, step.parameter(self.conv1), hidden, statistics=wanted)
        if keep:
            step.bottlenecks[self.conv1] = hidden
        second = step.bind(self.norm2, statistics, source.positions, hidden.dtype)
        weight = step.parameter(self.conv2)
        return convolutions.bn_relu_conv3x3_forward(hidden, second.norm, weight, self.dilation, out, statistics=wanted)

    def _forward_in_strips(self, step: ForwardPass, source: Feature, norm: Norm, out: Tensor) -> None:
        x = source.channels(self.norm1.num_features)
        second = step.bind(self.norm2, None, source.positions, x.dtype)
        n, _, h, w = x.shape
        max_pixels = max(1, step.plan.chunk_bytes // (self.conv1.out_channels * x.element_size()))
        for strip in strips(n, h, w, max_pixels, halo=self.dilation):
            rows = x[strip.images, :, strip.outer]
            hidden = step.workspace.take(x, rows.shape[0], self.conv1.out_channels, rows.shape[2], w, spread=True)
            kernels.bn_relu_conv1x1_forward(rows, norm, step.parameter(self.conv1), hidden)
            convolutions.bn_relu_conv3x3_forward(
                hidden,
                second.norm,
                step.parameter(self.conv2),
                self.dilation,
                out[strip.images, :, strip.rows],
                first_row=strip.inner.start,
            )

    def backward(self, step: BackwardPass, source: str, grad: CorrectedGradient) -> None:
        """From `grad` [N, M, H, W] to the gradients of the parameters and of feature `source`."""
        x = step.features[source].channels(self.norm1.num_features)
        first, second = step.norms[self.norm1], step.norms[self.norm2]
        hidden = step.bottlenecks.pop(self.conv1, None)
        if hidden is None:
            n, _, h, w = x.shape
            hidden = step.workspace.take(x, n, self.conv1.out_channels, h, w, spread=True)
            kernels.bn_relu_conv1x1_forward(x, first.norm, step.parameter(self.conv1), hidden)
        grad_hidden = step.workspace.take(x, *hidden.shape, spread=True)
        grad_weight, sums = convolutions.bn_relu_conv3x3_backward(
            grad,
            hidden,
            second.norm,
            step.parameter(self.conv2),
            self.dilation,
            grad_hidden,
            want_weight=step.wants(self.conv2),
        )
        step.add_gradient(self.conv2, grad_weight)
        step.add_norm_gradients(self.norm2, sums)
        accumulate_conv1x1(step, source, self.norm1, self.conv1, second.corrected(hidden, grad_hidden, sums))


def accumulate_conv1x1(
    step: BackwardPass, source: str, norm: nn.BatchNorm2d, conv: nn.Conv2d, grad: CorrectedGradient
) -> None:
    """Backward of BN - ReLU - conv 1x1 that reads the first channels of feature `source`; grad [N, M, H, W]."""
    channels = norm.num_features
    bound = step.norms[norm]
    target, accumulate = step.gradient_for(source, channels)
    grad_weight, sums = kernels.bn_relu_conv1x1_backward(
        grad,
        step.features[source].channels(channels),
        bound.norm,
        step.parameter(conv),
        None if target is None else target.channels(channels),
        accumulate=accumulate,
        want_weight=step.wants(conv),
    )
    step.add_gradient(conv, grad_weight)
    step.add_norm_gradients(norm, sums)
    if target is not None:
        target.defer(step.features[source], bound, sums)
