"""Stages without parameters: they copy or pool a feature into the first channels of another."""

import torch
import torch.nn.functional as F

from ...ops.affine_correction import write
from ..passes import BackwardPass, ForwardPass
from .stage import Repeatable, Stage


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
