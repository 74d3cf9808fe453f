"""Whole networks and their loss."""

from .ladder_densenet import LadderDenseNet, LadderOutput
from .loss import LadderLoss

__all__ = ["LadderDenseNet", "LadderLoss", "LadderOutput"]
