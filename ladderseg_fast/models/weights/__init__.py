"""Pretrained weights of the encoders, from files and from downloads of torchvision's and timm's networks."""

from .download import IMAGENET, MissingPackageError
from .files import read_state_dict, state_dict_in
from .fit import adapt_first_convolution, adaptation
from .layout import without_wrappers
from .load import load_encoder_weights

__all__ = [
    "IMAGENET",
    "MissingPackageError",
    "adapt_first_convolution",
    "adaptation",
    "load_encoder_weights",
    "read_state_dict",
    "state_dict_in",
    "without_wrappers",
]
