"""Conversion of other people's models: what is known in them runs as lean programs."""

from .conversion import convert, undo
from .dense_block import declare_dense_block
from .report import ConversionReport

__all__ = ["ConversionReport", "convert", "declare_dense_block", "undo"]
