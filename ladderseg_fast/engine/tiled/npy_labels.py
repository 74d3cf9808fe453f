"""Labels as a file that NumPy reads."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from .appended_file import AppendedFile


class NpyLabels:
    """Labels as an array [H, W] uint8 in a .npy file, not compressed; see LabelFormat."""

    def __init__(
        self, file: AppendedFile, size: tuple[int, int], colours: np.ndarray, state: Mapping[str, Any] | None
    ) -> None:
        self._file = file
        self.rows = 0 if state is None else state["rows"]
        if state is None:
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": size})
            file.append(head.getvalue())

    def write(self, labels: np.ndarray) -> None:
        """Adds `labels` [n, W] uint8."""
        self._file.append(labels.tobytes())
        self.rows += len(labels)

    def synchronise(self) -> dict[str, Any]:
        """Returns the state to continue from."""
        return {"rows": self.rows}

    def finish(self) -> None:
        """Completes the file after the last row: it is complete."""
