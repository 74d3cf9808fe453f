"""Interface of what writes rows of labels in one format of files."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .appended_file import AppendedFile


class LabelFormat(Protocol):
    """Labels in a file of one format, written from top to bottom.

    A file that was left unfinished is continued from `state` at a synchronised point, and the result is the same, byte
    for byte, as without the interruption.

    Attributes:
        rows: label rows that are in the file, or will be once it is synchronised.
    """

    rows: int

    def __init__(
        self, file: AppendedFile, size: tuple[int, int], colours: np.ndarray, state: Mapping[str, Any] | None
    ) -> None:
        """Begins labels of `size` (H, W) in `file`, or continues them from `state`.

        `colours` [256, 3] uint8 are those of the labels.
        """
        ...

    def write(self, labels: np.ndarray) -> None:
        """Adds `labels` [n, W] uint8. Raises OSError if the file cannot be written."""
        ...

    def synchronise(self) -> dict[str, Any]:
        """Completes what is in the file so far, and returns the state to continue from, as JSON knows it."""
        ...

    def finish(self) -> None:
        """Completes the file after the last row."""
        ...
