"""BN - ReLU - conv 1x1: a skip connection's projection, a transition that keeps the resolution, a reduction."""

from torch import nn

from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ..batch_norm import uses_batch_statistics
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .bottleneck import accumulate_conv1x1
from .stage import Stage


class ProjectionStage(Stage):
    """`norm`, ReLU and `conv` from feature `source` to feature `target`, which `reader` normalises.

    A skip connection is projected right after the dense block that it reads, long before the transition-up. So in
    evaluation the block's wide buffer is freed early, and in backward the block's gradient is made late.
    """

    def __init__(self, norm: nn.BatchNorm2d, conv: nn.Conv2d, reader: nn.BatchNorm2d, source: str, target: str) -> None:
        self.norm, self.conv = norm, conv
        self._reader = reader
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (norm, conv)
        self.forward_weights = self.backward_weights = (WeightUse(self.conv, Form.plain),)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.bind_to_feature(self.norm, source, self.norm.num_features)
        n, _, h, w = source.data.shape
        target = step.new_feature(self.writes, n, self.conv.out_channels, h, w)
        statistics = bn_relu_conv1x1_forward(
            source.data,
            bound.norm,
            step.weights.plain(self.conv),
            target.data,
            statistics=uses_batch_statistics(self._reader),
        )
        if statistics is not None:
            target.set_statistics(0, statistics)

    def backward(self, step: BackwardPass) -> None:
        gradient = step.gradient_of(self.writes).corrected(0, self.conv.out_channels)
        accumulate_conv1x1(step, self.reads[0], self.norm, self.conv, [(slice(None), slice(None), gradient)])
