"""Conversion of other people's models: what is known in them runs as lean programs."""

from .conversion import convert, undo
from .report import ConversionReport

__all__ = ["ConversionReport", "convert", "undo"]
