"""Stages without parameters: they copy or pool a feature into the first channels of another."""

import torch
import torch.nn.functional as F

from ...ops.affine_correction import settled, write
from ...ops.bn_relu_maxpool import bn_relu_maxpool_backward, bn_relu_maxpool_forward
from ..passes import BackwardPass, ForwardPass
from .stage import Repeatable, Size, Stage


class CopyStage(Stage, Repeatable):
    """Copy of feature `source` to the first channels of feature `target`, created with `channels` channels.

    A separate stage copies a dense block's input into the block's buffer, so that the buffer does not exist beside the
    maps of the stage that computes the input.
    """

    keeps = ()
    modules = ()

    def __init__(self, source: str, target: str, channels: int) -> None:
        self.reads = (source,)
        self.writes = target
        self.channels = channels

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        n, c, h, w = source.data.shape
        target = step.new_feature(self.writes, n, self.channels, h, w, spread=True)
        target.channels(c).copy_(source.data)
        if source.known_statistics is not None:
            target.set_statistics(0, source.known_statistics)

    def forward_again(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]].data
        step.new_feature(self.writes).channels(source.shape[1]).copy_(source)

    def backward(self, step: BackwardPass) -> None:
        target = step.new_gradient(self.reads[0])
        if target is not None:
            write(step.gradient_of(self.writes).corrected(0, target.data.shape[1]), target.data)


class LastChannelsStage(Stage):
    """Copy of the channels of feature `source` from `first` on to feature `target`."""

    keeps = ()
    modules = ()

    def __init__(self, source: str, target: str, first: int) -> None:
        self.reads = (source,)
        self.writes = target
        self.first = first

    def forward(self, step: ForwardPass) -> None:
        channels = step.features[self.reads[0]].data[:, self.first :]
        step.new_feature(self.writes, *channels.shape).data.copy_(channels)

    def backward(self, step: BackwardPass) -> None:
        target = step.gradient_to_add_to(self.reads[0])
        if target is not None:
            gradient = step.gradient_of(self.writes)
            target.data[:, self.first :].add_(settled(gradient.corrected(0, gradient.data.shape[1])))


class AveragePoolStage(Stage):
    """2x2 average pooling of feature `source` to the first channels of `target`, created with `channels` channels.

    It lies between the halves of the fourth block, where maps are small enough for torch's own pooling.
    """

    keeps = ()
    modules = ()

    def __init__(self, source: str, target: str, channels: int) -> None:
        self.reads = (source,)
        self.writes = target
        self.channels = channels

    def size(self, *sources: Size) -> Size:
        height, width = sources[-1]
        return height // 2, width // 2

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]].data
        n, c, h, w = source.shape
        target = step.new_feature(self.writes, n, self.channels, h // 2, w // 2, spread=True)
        target.channels(c).copy_(F.avg_pool2d(source, 2))

    def backward(self, step: BackwardPass) -> None:
        target = step.gradient_to_add_to(self.reads[0])
        if target is None:
            return
        n, c, h, w = target.data.shape
        pooled = step.workspace.take(target.data, n, c, h // 2, w // 2)
        write(step.gradient_of(self.writes).corrected(0, c), pooled)
        target.data += torch.ops.aten.avg_pool2d_backward(
            pooled, target.data, [2, 2], [2, 2], [0, 0], False, True, None
        )


class MaxPoolStage(Stage, Repeatable):
    """3x3 max pooling with stride 2 of feature `source` to the first channels of `target`.

    It creates `target` with `channels` channels. `source` has no negative values, and no other stage reads it. Where
    the maximum is 0, the stage stops the gradient, as the ReLU before it would.
    """

    modules = ()

    def __init__(self, source: str, target: str, channels: int) -> None:
        self.reads = self.keeps = (source,)
        self.writes = target
        self.channels = channels

    def size(self, *sources: Size) -> Size:
        height, width = sources[-1]
        return (height + 1) // 2, (width + 1) // 2

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]].data
        n, c, h, w = source.shape
        target = step.new_feature(self.writes, n, self.channels, (h + 1) // 2, (w + 1) // 2, spread=True)
        bn_relu_maxpool_forward(source, step.identity(c), target.channels(c))

    def forward_again(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]].data
        target = step.new_feature(self.writes).channels(source.shape[1])
        bn_relu_maxpool_forward(source, step.identity(source.shape[1]), target)

    def backward(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]].data
        target = step.new_gradient(self.reads[0])
        if target is not None:
            grad = settled(step.gradient_of(self.writes).corrected(0, source.shape[1]))
            bn_relu_maxpool_backward(grad, source, step.identity(source.shape[1]), target.data)
