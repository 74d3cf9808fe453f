"""The last stage of a part of a program, for a feature that the part's own backward reads too."""

from ..passes import BackwardPass, ForwardPass
from .stage import Stage


class HandOnStage(Stage):
    """Copy of feature `source` to the output `target`, which another part of the program reads (parts.py).

    The stages before it go on with `source`: they add to its gradient, which begins as that of the output.
    """

    modules = ()

    def __init__(self, source: str, target: str) -> None:
        self.reads = self.keeps = (source,)
        self.writes = target

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        target = step.new_feature(self.writes, *source.data.shape)
        target.data.copy_(source.data)
        if source.known_statistics is not None:
            target.set_statistics(0, source.known_statistics)

    def backward(self, step: BackwardPass) -> None:
        name = self.reads[0]
        target = step.new_gradient(name)
        if target is not None:
            step.gradient_of(self.writes).hand_on(step.features[name], target)
