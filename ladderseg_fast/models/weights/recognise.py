"""Recognition of a checkpoint's network by its layers."""

from collections.abc import Mapping

from torch import Tensor

from ..encoder import Encoder


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """Name of the network whose checkpoint `state` is, or None if no family of encoders knows it."""
    return next((name for family in Encoder.families if (name := family.recognise(state)) is not None), None)
