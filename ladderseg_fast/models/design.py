"""The choices that tell one model of the paper from another."""

from dataclasses import dataclass
from typing import Any

from ..nn import Context, PyramidContext
from .encoder import Encoder

#: What context layers may be called.
CONTEXTS = {"dilated": Context, "pyramid": PyramidContext}


@dataclass(frozen=True)
class Design:
    """A network: an encoder, a context layer on its last feature, transitions up, one head or two.

    Raises:
        ValueError: there is no such context layer, or no such block to split.
    """

    encoder: Encoder[Any]
    split_blocks: tuple[int, ...] = ()
    """Numbers of the encoder's blocks (1 to 4) that an average pooling splits in two halves."""
    dilated: bool = False
    """Whether the encoder's last two blocks stay at 1/8 of the images' resolution."""
    transitions_up: int | None = None
    """Number of them, along the skip connections from as many of the finest features; None: from all but the last one.
    With 0 the scores are those of the context output."""
    context: str = "dilated"
    """A name in CONTEXTS."""
    auxiliary: bool = True
    """Whether there is a second head on the context output, for the auxiliary loss."""
    width: int = 128
    """Channels of the context layer's output, of every projection and of every transition up."""

    def __post_init__(self) -> None:
        if not set(self.split_blocks) <= {1, 2, 3, 4}:
            raise ValueError(f"split_blocks must be numbers from 1 to 4, got {self.split_blocks}")
        if self.context not in CONTEXTS:
            raise ValueError(f"context must be one of {', '.join(CONTEXTS)}, got {self.context!r}")

    def skips(self, features: list[str]) -> list[str]:
        """Names of the encoder's `features` that transitions up read, in their order: the coarsest first."""
        return features[:-1][: self.transitions_up][::-1]
