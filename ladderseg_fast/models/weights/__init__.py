"""Pretrained weights of the encoders: files and downloads of torchvision's and timm's networks."""

from .download import IMAGENET, MissingPackageError
from .load import load_encoder_weights

__all__ = ["IMAGENET", "MissingPackageError", "load_encoder_weights"]
