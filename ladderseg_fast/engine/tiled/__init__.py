"""Labels of images of any size: windows read from disk, blended tiles, labels written in strips."""

from .array_windows import ArrayWindows
from .grid import TileSize
from .label_file import FORMATS, LabelFile
from .open_windows import open_windows
from .prediction import LabelArray, LabelSink, predict_tiled
from .windows import Windows

__all__ = [
    "FORMATS",
    "ArrayWindows",
    "LabelArray",
    "LabelFile",
    "LabelSink",
    "TileSize",
    "Windows",
    "open_windows",
    "predict_tiled",
]
