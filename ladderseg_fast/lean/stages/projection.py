"""The projection of a skip connection, by BN - ReLU - conv 1x1."""

from ...nn import TransitionUp
from ...ops import kernels
from ..batch_norm import uses_batch_statistics
from ..passes import BackwardPass, ForwardPass
from .bottleneck import accumulate_conv1x1
from .stage import Stage


class ProjectionStage(Stage):
    """The skip branch of `up`, from feature `source` to feature `target`.

    It comes right after the dense block that it reads, long before the transition up: so in evaluation the block's
    wide buffer can go, and in backward the block's gradient need not exist until the ladder has come down to it.
    """

    def __init__(self, up: TransitionUp, source: str, target: str) -> None:
        self.norm, self.conv = up.skip_norm, up.skip_conv
        self._reader = up.norm
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (self.norm, self.conv)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.bind_to_feature(self.norm, source, self.norm.num_features)
        n, _, h, w = source.data.shape
        target = step.new_feature(self.writes, source.data, n, self.conv.out_channels, h, w)
        statistics = kernels.bn_relu_conv1x1_forward(
            source.data,
            bound.norm,
            step.parameter(self.conv),
            target.data,
            statistics=uses_batch_statistics(self._reader),
        )
        if statistics is not None:
            target.set_statistics(0, *statistics)

    def backward(self, step: BackwardPass) -> None:
        gradient = step.gradient_of(self.writes)
        accumulate_conv1x1(
            step, self.reads[0], self.norm, self.conv, gradient.corrected(0, self.conv.out_channels)
        )
