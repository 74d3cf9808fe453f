"""The context layer."""

from ...nn import Context
from ..passes import BackwardPass, ForwardPass
from .bottleneck import Bottleneck
from .stage import Stage


class ContextStage(Stage):
    """The context layer `context` from feature `source` to feature `target`."""

    def __init__(self, context: Context, source: str, target: str) -> None:
        self.layer = Bottleneck.of(context, target)
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = self.layer.modules
        self.forward_weights, self.backward_weights = self.layer.forward_weights, self.layer.backward_weights

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        n, _, h, w = source.data.shape
        target = step.new_feature(self.writes, n, self.layer.conv2.out_channels, h, w)
        self.layer.forward(step, target, source, 0)

    def backward(self, step: BackwardPass) -> None:
        gradient = step.gradient_of(self.writes)
        self.layer.backward(step, self.reads[0], gradient.corrected(0, self.layer.conv2.out_channels))
