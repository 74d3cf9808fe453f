"""The interface of the stages of a lean program."""

from abc import ABC, abstractmethod

from torch import nn

from ..passes import BackwardPass, ForwardPass


class Stage(ABC):
    """A step of a lean program: it reads some features, writes one, and knows its backward.

    reads: features whose gradient the backward adds to.
    writes: the feature whose gradient the backward consumes.
    keeps: features that the backward needs the values of.
    modules: those whose parameters it uses.
    any_strides: whether what it reads may be of any strides; else it is pixel-major.
    """

    reads: tuple[str, ...]
    writes: str
    keeps: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    any_strides: bool = False

    @abstractmethod
    def forward(self, step: ForwardPass) -> None:
        """Write the feature `self.writes`, or a range of its channels."""

    @abstractmethod
    def backward(self, step: BackwardPass) -> None:
        """Turn the gradient of `self.writes` into those of the parameters and of `self.reads`."""


class Repeatable(ABC):
    """A stage whose forward can be repeated in a backward pass."""

    @abstractmethod
    def forward_again(self, step: BackwardPass) -> None:
        """Write what forward wrote, with the numbers that batch norms normalised with then."""
