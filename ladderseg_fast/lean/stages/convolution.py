"""BN - ReLU - conv 3x3 of a feature with no other reader."""

from torch import nn

from ...ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ..batch_norm import uses_batch_statistics
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .bottleneck import dilation_of
from .stage import Stage


class ConvolutionStage(Stage):
    """`norm`, ReLU and the 3x3 convolution `conv` from feature `source`, whose only reader it is, to `target`."""

    def __init__(self, norm: nn.BatchNorm2d, conv: nn.Conv2d, source: str, target: str) -> None:
        self.norm, self.conv = norm, conv
        self.dilation = dilation_of(conv)  # of this step, in its backward too
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (norm, conv)
        self.forward_weights = (WeightUse(conv, Form.forward),)
        self.backward_weights = (WeightUse(conv, Form.backward),)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.bind_to_feature(self.norm, source, self.norm.num_features)
        n, _, h, w = source.data.shape
        target = step.new_feature(self.writes, n, self.conv.out_channels, h, w)
        statistics = bn_relu_conv3x3_forward(
            source.data,
            bound.norm,
            step.weights.forward(self.conv),
            self.dilation,
            target.data,
            statistics=uses_batch_statistics(self.norm),  # the reader most likely does the same
        )
        if statistics is not None:
            target.set_statistics(0, statistics)

    def backward(self, step: BackwardPass) -> None:
        name = self.reads[0]
        source = step.features[name]
        bound = step.norms[self.norm]
        target = step.new_gradient(name)
        # Without a target only the sums are needed, not the values written.
        data = step.workspace.take(source.data, *source.data.shape) if target is None else target.data
        grad_weight, sums = bn_relu_conv3x3_backward(
            step.gradient_of(self.writes).corrected(0, self.conv.out_channels),
            source.data,
            bound.norm,
            step.weights.backward(self.conv),
            self.dilation,
            data,
            want_weight=step.wants(self.conv),
        )
        step.add_gradient(self.conv, grad_weight)
        step.finish_norm_of(source, self.norm, sums, target)
