"""The stages of lean programs."""

from .basic_dense_block import BasicDenseBlockStage, BasicLayer
from .context import ContextStage
from .convolution import ConvolutionStage
from .dense_block import DenseBlockStage
from .hand_on import HandOnStage
from .head import HeadStage
from .pooling import AveragePoolStage, CopyStage, LastChannelsStage, MaxPoolStage
from .projection import ProjectionStage
from .pyramid import PyramidStage
from .rectified import RectifiedStage
from .residual import ResidualStage
from .stage import Repeatable, Size, Stage
from .stem import StemStage
from .transition import TransitionStage
from .transition_up import TransitionUpStage

__all__ = [
    "AveragePoolStage",
    "BasicDenseBlockStage",
    "BasicLayer",
    "ContextStage",
    "ConvolutionStage",
    "CopyStage",
    "DenseBlockStage",
    "HandOnStage",
    "HeadStage",
    "LastChannelsStage",
    "MaxPoolStage",
    "ProjectionStage",
    "PyramidStage",
    "RectifiedStage",
    "Repeatable",
    "ResidualStage",
    "Size",
    "Stage",
    "StemStage",
    "TransitionStage",
    "TransitionUpStage",
]
