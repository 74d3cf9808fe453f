"""The choices in which the paper's models differ."""

from dataclasses import dataclass
from typing import Any

from ..nn import Context, PyramidContext
from .encoder import Encoder

#: Names of context layers.
CONTEXTS = {"dilated": Context, "pyramid": PyramidContext}


@dataclass(frozen=True)
class Design:
    """A network: an encoder, a context layer on its last feature, transitions-up, one head or two.

    Raises:
        ValueError: `context` names no context layer, or `split_blocks` no block.
    """

    encoder: Encoder[Any]
    split_blocks: tuple[int, ...] = ()
    """Numbers of the encoder's blocks (1 to 4) that an average pooling splits in two halves."""
    dilated: bool = False
    """Whether the encoder's last two blocks stay at 1/8 of the images' resolution."""
    transitions_up: int | None = None
    """Number of transitions-up, and of finest features with a skip connection; None: all features but the last.
    With 0 the scores are those of the context output."""
    context: str = "dilated"
    """A name in CONTEXTS."""
    auxiliary: bool = True
    """Whether there is a second head on the context output, for the auxiliary loss."""
    width: int = 128
    """Channels of the context layer's output, of every projection and of every transition-up."""

    def __post_init__(self) -> None:
        if not set(self.split_blocks) <= {1, 2, 3, 4}:
            raise ValueError(f"split_blocks must be numbers from 1 to 4, got {self.split_blocks}")
        if self.context not in CONTEXTS:
            raise ValueError(f"context must be one of {', '.join(CONTEXTS)}, got {self.context!r}")

    def skips(self, features: list[str]) -> list[str]:
        """Names of the encoder's `features` that transitions-up read, the coarsest first."""
        return features[:-1][: self.transitions_up][::-1]
