"""Whole networks and their loss."""

from .budget import memory_mode
from .densenets import DenseNet32x, DilatedDenseNet, LadderDenseNet
from .loss import LadderLoss
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
