"""The stages of lean programs."""

from .context import ContextStage
from .dense_block import DenseBlockStage
from .head import HeadStage
from .pooling import AveragePoolStage, CopyStage
from .projection import ProjectionStage
from .stage import Stage
from .stem import StemStage
from .transition import TransitionStage
from .transition_up import TransitionUpStage

__all__ = [
    "AveragePoolStage",
    "ContextStage",
    "CopyStage",
    "DenseBlockStage",
    "HeadStage",
    "ProjectionStage",
    "Stage",
    "StemStage",
    "TransitionStage",
    "TransitionUpStage",
]
