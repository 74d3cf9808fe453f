"""The prediction head."""

from ...nn import Head
from ...ops.arguments import Gradient
from ...ops.backend import real_dtype
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .bottleneck import accumulate_conv1x1
from .stage import Stage


class HeadStage(Stage):
    """The prediction head `head` from feature `source` to class scores `target`."""

    def __init__(self, head: Head, source: str, target: str) -> None:
        self.norm, self.conv = head.norm, head.conv
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (self.norm, self.conv)
        self.forward_weights = self.backward_weights = (WeightUse(self.conv, Form.plain),)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.bind_to_feature(self.norm, source, self.norm.num_features)
        n, _, h, w = source.data.shape
        target = step.new_feature(self.writes, n, self.conv.out_channels, h, w)
        bn_relu_conv1x1_forward(source.data, bound.norm, step.weights.plain(self.conv), target.data)
        bias = step.parameter(self.conv, "bias")
        if bias is not None:
            if bias.shape != (self.conv.out_channels,):  # only here is a parametrization's result known
                raise ValueError(f"a head's bias must be [{self.conv.out_channels}], got shape {tuple(bias.shape)}")
            target.data += bias.view(1, -1, 1, 1)

    def backward(self, step: BackwardPass) -> None:
        grad = step.gradient_of(self.writes).data  # no correction: no batch norm reads class scores
        if step.wants(self.conv, "bias"):
            step.add_gradient(self.conv, grad.sum(dim=(0, 2, 3), dtype=real_dtype(grad.dtype)), "bias")
        whole = slice(None), slice(None), Gradient(grad)
        accumulate_conv1x1(step, self.reads[0], self.norm, self.conv, [whole])
        target = step.gradient_to_add_to(self.reads[0])
        if target is not None:
            target.settle()  # frees the values of the source
