"""BN - ReLU - conv 1x1 - BN - ReLU - conv 3x3 on a feature: a dense layer, and the context layer.

The result of the 1x1 convolution is not kept: backward makes it again from the feature (ALGORITHMS.md section 2).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from ...ops import kernels
from .. import conv3x3
from ..batch_norm import uses_batch_statistics
from ..feature import CorrectedGradient, Feature
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

    def forward(self, step: ForwardPass, source: Feature, out: Tensor) -> None:
        """out [N, M, H, W] from the first channels of `source`, as many as norm1 has."""
        channels = self.norm1.num_features
        first = step.bind_to_feature(self.norm1, source, channels)
        n, _, h, w = source.data.shape
        hidden = step.workspace.take(source.data, n, self.conv1.out_channels, h, w)
        statistics = kernels.bn_relu_conv1x1_forward(
            source.channels(channels),
            first.norm,
            step.parameter(self.conv1),
            hidden,
            statistics=uses_batch_statistics(self.norm2),
        )
        second = step.bind(self.norm2, statistics, source.positions, hidden.dtype)
        weight = step.parameter(self.conv2)
        conv3x3.forward(hidden, second.norm, weight, self.dilation, out, step.plan, step.workspace)

    def backward(self, step: BackwardPass, source: str, grad: CorrectedGradient) -> None:
        """From `grad` [N, M, H, W] to the gradients of the parameters and of feature `source`."""
        channels = self.norm1.num_features
        x = step.features[source].channels(channels)
        first, second = step.norms[self.norm1], step.norms[self.norm2]
        n, _, h, w = x.shape
        hidden = step.workspace.take(x, n, self.conv1.out_channels, h, w)
        kernels.bn_relu_conv1x1_forward(x, first.norm, step.parameter(self.conv1), hidden)
        grad_hidden = step.workspace.take(x, *hidden.shape)
        grad_weight, sums = conv3x3.backward(
            grad,
            hidden,
            second.norm,
            step.parameter(self.conv2),
            self.dilation,
            grad_hidden,
            step.wants(self.conv2),
            step.plan,
            step.workspace,
        )
        step.add_gradient(self.conv2, grad_weight)
        step.add_norm_gradients(self.norm2, sums)
        second.correct(hidden, grad_hidden, sums)
        accumulate_conv1x1(step, source, self.norm1, self.conv1, grad_hidden)


def accumulate_conv1x1(
    step: BackwardPass, source: str, norm: nn.BatchNorm2d, conv: nn.Conv2d, grad: Tensor
) -> None:
    """Backward of BN - ReLU - conv 1x1 that reads the first channels of feature `source`; grad [N, M, H, W]."""
    channels = norm.num_features
    bound = step.norms[norm]
    target = step.gradient_of(source)
    grad_weight, sums = kernels.bn_relu_conv1x1_backward(
        grad,
        step.features[source].channels(channels),
        bound.norm,
        step.parameter(conv),
        None if target is None else target.channels(channels),
        accumulate=True,
        want_weight=step.wants(conv),
    )
    step.add_gradient(conv, grad_weight)
    step.add_norm_gradients(norm, sums)
    if target is not None:
        target.defer(bound, sums)
