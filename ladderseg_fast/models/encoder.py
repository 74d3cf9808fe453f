"""The interface of encoders, the networks of a model's downsampling path."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from ..lean.examination import Examination, know
from ..lean.stages import Stage
from ..nn import Features

F = TypeVar("F", bound=Features)


@dataclass(frozen=True)
class Layout:
    """Names of an encoder's parts in the checkpoints of one family of networks."""

    first_convolution: str
    """Name of the weight that reads the image."""
    left_out: tuple[str, ...]
    """Prefixes (after `prefix`) of names that no encoder has."""
    prefix: str
    """Prefix of the encoder's names in whole networks."""
    modern: Callable[[str], str] = str
    """Function that turns a name, perhaps in an old style, into today's name."""


class Encoder(ABC, Generic[F]):
    """A family of encoders; an instance is one of them. Subclasses are frozen dataclasses, each in a file of its own.

    The argument `features` of the methods is the module that `build` returned.
    """

    #: Class of `features`.
    features_class: ClassVar[type[Features]]
    layout: ClassVar[Layout]
    #: Features, none of them a section of memory plans, that backward makes again instead of keeping them.
    made_again: ClassVar[frozenset[str]] = frozenset()

    #: All families of encoders.
    families: ClassVar[list[type["Encoder[Any]"]]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Encoder.families.append(cls)
        know(cls.features_class)

    @staticmethod
    @abstractmethod
    def architectures() -> list[str]:
        """Networks of the family's checkpoints, as torchvision and timm name them."""

    @staticmethod
    @abstractmethod
    def recognise(state: Mapping[str, Tensor]) -> str | None:
        """The architecture of the checkpoint `state`, or None if it is not of this family."""

    @property
    @abstractmethod
    def architecture(self) -> str:
        """The architecture of this encoder."""

    @abstractmethod
    def build(self, in_channels: int, split_blocks: tuple[int, ...], dilated: bool) -> F:
        """Builds the module.

        Args:
            in_channels: channels of the images.
            split_blocks: numbers of the blocks (1 to 4) that an average pooling splits in two halves.
            dilated: the last two blocks stay at 1/8 of the images' resolution.
        """

    @abstractmethod
    def examine(self, look: Examination, path: str, features: F) -> None:
        """Examines all modules of `features` that a lean step does not call.

        Raises:
            UnsupportedModuleError: a module no longer computes what the lean program computes in its place.
        """

    @abstractmethod
    def stages(self, features: F, skips: Mapping[str, Stage]) -> Iterator[Stage]:
        """The stages of a lean program from "images" to all features.

        skips: projection of each skip connection, by its source; it is inserted right after the source is written.
        """


def count_layers(state: Mapping[str, Tensor], pattern: re.Pattern[str]) -> tuple[int, ...]:
    """Counts, for each first number that `pattern` finds in the names, the different second numbers."""
    found = {match.groups() for name in state if (match := pattern.match(name))}
    groups = sorted({int(group) for group, _ in found})
    return tuple(sum(int(other) == group for other, _ in found) for group in groups)
