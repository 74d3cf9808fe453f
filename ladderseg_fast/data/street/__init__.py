"""Procedural street scenes: a data set that needs no download."""

from .classes import STREET_LABELS
from .dataset import STREET, StreetScenes

__all__ = ["STREET", "STREET_LABELS", "StreetScenes"]
