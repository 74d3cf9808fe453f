"""Modules that hold the parameters and BN buffers, with the plain PyTorch forward."""

from .context import Context
from .dense_block import DenseBlock, DenseLayer
from .densenet import BLOCK_LAYERS, DenseNetFeatures
from .head import Head
from .transition import Transition
from .transition_up import TransitionUp

__all__ = [
    "BLOCK_LAYERS",
    "Context",
    "DenseBlock",
    "DenseLayer",
    "DenseNetFeatures",
    "Head",
    "Transition",
    "TransitionUp",
]
