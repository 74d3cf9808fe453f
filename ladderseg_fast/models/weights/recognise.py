"""The network that a checkpoint is of, as its layers tell."""

from collections.abc import Mapping

from torch import Tensor

from ..encoder import Encoder


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """The name of the network that `state` is of, or None for one that no encoder's family knows."""
    return next((name for family in Encoder.families if (name := family.recognise(state)) is not None), None)
