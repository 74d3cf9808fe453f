"""The interface of the stages of a lean program."""

from abc import ABC, abstractmethod

from torch import nn

from ..passes import BackwardPass, ForwardPass
from ..weights import WeightUse

#: Height and width of a map: numbers, or torch.SymInt in a compiler's graph.
Size = tuple[int, int]


class Stage(ABC):
    """A step of a lean program: it reads some features, writes one, and knows its backward.

    reads: features to whose gradients the backward adds.
    writes: the feature whose gradient the backward consumes.
    keeps: features whose values the backward needs.
    modules: modules whose parameters the stage uses.
    overwrites_gradient: whether the backward overwrites the gradient of `writes`.
    any_strides: whether the features read may have any strides; otherwise they are pixel-major.
    forward_weights: weights that the forward uses, in order; so that many can be prepared together.
    backward_weights: weights that the backward uses, in order.
    """

    reads: tuple[str, ...]
    writes: str
    keeps: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    overwrites_gradient: bool = False
    any_strides: bool = False
    forward_weights: tuple[WeightUse, ...] = ()
    backward_weights: tuple[WeightUse, ...] = ()

    def size(self, *sources: Size) -> Size:
        """Height and width of `writes`, from those of `reads`."""
        return sources[-1]

    @abstractmethod
    def forward(self, step: ForwardPass) -> None:
        """Writes the feature `self.writes`, or a range of its channels."""

    @abstractmethod
    def backward(self, step: BackwardPass) -> None:
        """Turns the gradient of `self.writes` into the gradients of the parameters and of `self.reads`."""


class Repeatable(ABC):
    """A stage whose forward can be repeated in a backward pass."""

    @abstractmethod
    def forward_again(self, step: BackwardPass) -> None:
        """Writes what forward wrote, with the numbers that batch norms normalised with in forward."""
