"""Conversion of other people's models: what is known in them runs as lean programs."""

from .conversion import Convert, convert
from .report import ConversionReport

__all__ = ["ConversionReport", "Convert", "convert"]
