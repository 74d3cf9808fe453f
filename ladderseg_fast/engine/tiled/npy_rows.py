"""Rows of pixels as a file that NumPy reads."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from .appended_file import AppendedFile
from .row_format import RowForm


class NpyRows:
    """Pixels as an array [H, W], or [H, W, 3], uint8 in a .npy file, not compressed; see RowFormat."""

    def __init__(self, file: AppendedFile, form: RowForm, state: Mapping[str, Any] | None) -> None:
        self._file = file
        self.rows = 0 if state is None else state["rows"]
        if state is None:
            head = io.BytesIO()
            shape = form.size if form.channels == 1 else (*form.size, form.channels)
            np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
            file.append(head.getvalue())

    def write(self, pixels: np.ndarray) -> None:
        """Adds `pixels` [n, W] or [n, W, 3] uint8."""
        self._file.append(pixels.tobytes())
        self.rows += len(pixels)

    def synchronise(self) -> dict[str, Any]:
        """Returns the state to continue from."""
        return {"rows": self.rows}

    def finish(self) -> None:
        """Completes the file after the last row: it is complete."""
