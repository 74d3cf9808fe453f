"""Procedural street scenes: a data set that needs no download."""

from .classes import STREET_LABELS
from .dataset import StreetScenes

__all__ = ["STREET_LABELS", "StreetScenes"]
