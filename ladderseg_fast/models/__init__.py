"""Whole networks and their loss."""

from .densenets import DenseNet32x, DilatedDenseNet, LadderDenseNet
from .loss import LadderLoss
from .memory_argument import memory_mode
from .output import LadderOutput
from .registry import create_model, list_models
from .resnets import DilatedResNet, LadderResNet, ResNet32x
from .segmentation_model import SegmentationModel

__all__ = [
    "DenseNet32x",
    "DilatedDenseNet",
    "DilatedResNet",
    "LadderDenseNet",
    "LadderLoss",
    "LadderOutput",
    "LadderResNet",
    "ResNet32x",
    "SegmentationModel",
    "create_model",
    "list_models",
    "memory_mode",
]
