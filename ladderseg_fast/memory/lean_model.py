"""The interface through which the planner uses a model."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ..lean import MemoryPlan, Workspace
from ..lean.parts import PartedProgram


class LeanModel(Protocol):
    """An nn.Module that runs as a lean program, such as models.SegmentationModel."""

    num_classes: int
    training: bool

    @property
    def in_channels(self) -> int:
        """Channels of the images."""

    @property
    def min_size(self) -> int:
        """Smallest side of an image."""

    @property
    def section_names(self) -> list[str]:
        """The sections that a MemoryPlan may name, in the order of the forward pass."""

    def lean_scores(
        self, images: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
    ) -> tuple[Tensor, ...]:
        """All class scores [N, num_classes, h, w] of `images` [N, in_channels, H, W]; differentiable."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Same as nn.Module's."""

    def buffers(self) -> Iterator[Tensor]:
        """Same as nn.Module's."""

    def modules(self) -> Iterator[nn.Module]:
        """Same as nn.Module's."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Same as nn.Module's."""


@runtime_checkable
class PartedModel(LeanModel, Protocol):
    """A LeanModel whose program can be cut between sections, for several devices."""

    @property
    def cut_sections(self) -> list[str]:
        """The sections after which a cut may lie, in the order of the forward pass."""

    def cuts_after(self, names: Sequence[str]) -> tuple[str, ...]:
        """The sections among `cut_sections` that users call by these names; ValueError for others."""

    def parted_program(self, plan: MemoryPlan, cuts: Sequence[str]) -> PartedProgram:
        """The program from "images" to all scores, in parts that end after the sections `cuts`."""
