"""The interface through which the planner uses a model."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn

from ..lean import MemoryPlan, Workspace


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
