"""Images of any size: windows read from disk, blended tiles, results written in strips."""

from .array_windows import ArrayWindows
from .grid import TileSize
from .open_windows import open_windows
from .prediction import LabelArray, RowSink, predict_tiled
from .result_file import FORMATS, ResultFile
from .result_rows import ResultRows
from .results import KINDS, TiledImage, TiledResults, open_results
from .row_format import RowForm
from .windows import Windows

__all__ = [
    "FORMATS",
    "KINDS",
    "ArrayWindows",
    "LabelArray",
    "ResultFile",
    "ResultRows",
    "RowForm",
    "RowSink",
    "TileSize",
    "TiledImage",
    "TiledResults",
    "Windows",
    "open_results",
    "open_windows",
    "predict_tiled",
]
