"""The interface of encoders, the networks that models have for a downsampling path."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from ..lean import MemoryPlan, Workspace
from ..lean.examination import Examination, know
from ..lean.stages import Stage
from ..nn import Features

F = TypeVar("F", bound=Features)


@dataclass(frozen=True)
class Layout:
    """Names that checkpoints of one family of networks have for what an encoder has."""

    first_convolution: str
    """The weight that reads the image."""
    left_out: tuple[str, ...]
    """Beginnings of the names, without `prefix`, that no encoder has."""
    prefix: str
    """Prefix of the encoder's names in whole networks."""
    modern: Callable[[str], str] = str
    """Today's name for one that may be in an old style."""


class Encoder(ABC, Generic[F]):
    """A family of encoders; an instance is one of them. Subclasses are frozen dataclasses, each in a file of its own.

    `features`, in what follows, is what `build` returned.
    """

    #: Class of `features`.
    features_class: ClassVar[type[Features]]
    layout: ClassVar[Layout]
    #: The part that torch runs, in lean steps too, for people; None: all is the lean program's.
    on_torch: ClassVar[str | None] = None

    #: All families.
    families: ClassVar[list[type["Encoder[Any]"]]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Encoder.families.append(cls)
        know(cls.features_class)

    @staticmethod
    @abstractmethod
    def architectures() -> list[str]:
        """Networks that checkpoints of the family may be of, as torchvision and timm name them."""

    @staticmethod
    @abstractmethod
    def recognise(state: Mapping[str, Tensor]) -> str | None:
        """The architecture that the checkpoint `state` is of, or None."""

    @property
    @abstractmethod
    def architecture(self) -> str:
        """The one of this encoder."""

    @abstractmethod
    def build(self, in_channels: int, split_blocks: tuple[int, ...], dilated: bool) -> F:
        """The module.

        Args:
            in_channels: channels of the images.
            split_blocks: numbers of the blocks (1 to 4) that an average pooling splits in two halves.
            dilated: the last two blocks stay at 1/8 of the images' resolution.
        """

    @abstractmethod
    def examine(self, look: Examination, path: str, features: F) -> None:
        """Look at all modules of `features` that a lean step does not call.

        Raises:
            UnsupportedModuleError: one computes something else than the lean program does in its place.
        """

    @abstractmethod
    def stages(self, features: F, skips: Mapping[str, Stage]) -> Iterator[Stage]:
        """The stages of a lean program from "images", or from the features of `run_on_torch`, to all features.

        skips: by its source, the projection of each skip connection, to be put where that has been written.
        """

    def run_on_torch(
        self, features: F, images: Tensor, plan: MemoryPlan, workspace: Workspace | None
    ) -> dict[str, Tensor]:
        """The features by their names, for encoders that run `on_torch`."""
        raise NotImplementedError


def count_layers(state: Mapping[str, Tensor], pattern: re.Pattern[str]) -> tuple[int, ...]:
    """Number of different second numbers that `pattern` finds in the names beside each first number."""
    found = {match.groups() for name in state if (match := pattern.match(name))}
    groups = sorted({int(group) for group, _ in found})
    return tuple(sum(int(other) == group for other, _ in found) for group in groups)
