"""Interface of what writes rows of pixels in one format of files."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from .appended_file import AppendedFile
from .tiff_directory import TiffTag


class RowForm(NamedTuple):
    """Pixels of a file."""

    size: tuple[int, int]
    """(H, W)."""
    channels: int = 1
    """Numbers of a pixel: one; three, which are RGB; or any of planes."""
    palette: np.ndarray | None = None
    """[256, 3] uint8, the colours that the one channel stands for; a format without palettes leaves them out."""
    tags: tuple[TiffTag, ...] = ()
    """More tags for a TIFF; other formats leave them out."""


class RowFormat(Protocol):
    """Pixels in a file of one format, written from top to bottom.

    A file that was left unfinished is continued from `state` at a synchronised point, and the result is the same, byte
    for byte, as without the interruption.

    Attributes:
        rows: rows that are in the file, or will be once it is synchronised.
    """

    rows: int

    def __init__(self, file: AppendedFile, form: RowForm, state: Mapping[str, Any] | None) -> None:
        """Begins pixels of `form` in `file`, or continues them from `state`."""
        ...

    def write(self, pixels: np.ndarray) -> None:
        """Adds `pixels`: [n, W] uint8 of one channel, [n, W, 3] uint8 of three; planes [n, channels, W].

        Raises OSError if the file cannot be written.
        """
        ...

    def synchronise(self) -> dict[str, Any]:
        """Completes what is in the file so far, and returns the state to continue from, as JSON knows it."""
        ...

    def finish(self) -> None:
        """Completes the file after the last row."""
        ...
