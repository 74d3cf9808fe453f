"""Pretrained weights of the encoders, from files and from downloads of torchvision's and timm's networks."""

from .download import IMAGENET, MissingPackageError
from .files import read_state_dict, state_dict_in
from .layout import without_wrappers
from .load import load_encoder_weights

__all__ = [
    "IMAGENET",
    "MissingPackageError",
    "load_encoder_weights",
    "read_state_dict",
    "state_dict_in",
    "without_wrappers",
]
