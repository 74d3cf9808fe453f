"""Result of a segmentation model."""

from typing import NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree


class LadderOutput(NamedTuple):
    """Class scores of one forward pass."""

    logits: Tensor
    """[N, K, h, w]: at 1/4 of the images' resolution for models with transitions up, else at the encoder's."""
    aux: Tensor | None
    """[N, K, h, w]: scores of the context output, for the auxiliary loss; None for models without it."""


# torch.export.save writes the name; a program that loads the file must have imported this package.
pytree._register_namedtuple(LadderOutput, serialized_type_name="ladderseg_fast.LadderOutput")
