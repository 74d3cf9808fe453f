"""Modules that hold the parameters and BN buffers, with the plain PyTorch forward."""

from .basic_dense_block import BasicDenseBlock, BasicDenseLayer
from .context import Context
from .dense_block import DenseBlock, DenseLayer
from .densenet import DENSENETS, DenseNetFeatures, DenseNetShape, Section
from .features import Features
from .head import Head
from .pyramid_context import PyramidContext
from .resnet import RESNETS, BasicBlock, Bottleneck, ResNetFeatures, ResNetShape
from .transition import Transition
from .transition_up import TransitionUp

__all__ = [
    "DENSENETS",
    "BasicDenseBlock",
    "BasicDenseLayer",
    "RESNETS",
    "BasicBlock",
    "Bottleneck",
    "Context",
    "DenseBlock",
    "DenseLayer",
    "DenseNetFeatures",
    "DenseNetShape",
    "Features",
    "Head",
    "PyramidContext",
    "ResNetFeatures",
    "ResNetShape",
    "Section",
    "Transition",
    "TransitionUp",
]
