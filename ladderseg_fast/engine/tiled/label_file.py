"""File of labels that is written strip by strip, and continued after an interruption."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_file import atomic_write
from .appended_file import AppendedFile
from .label_format import LabelFormat
from .npy_labels import NpyLabels
from .png_labels import PngLabels
from .tiff_labels import TiffLabels
from .windows import OpenFile

#: By name: what writes it, and the ending of its files.
FORMATS: dict[str, tuple[type[LabelFormat], str]] = {
    "png": (PngLabels, ".png"),
    "tiff": (TiffLabels, ".tif"),
    "npy": (NpyLabels, ".npy"),
}

_VERSION = 1
#: Endings of what is beside the result until it is finished: the labels so far, and how far they are.
PARTIAL, STATE = ".partial", ".partial.json"


class LabelFile(OpenFile):
    """Labels of `size` (H, W) on their way into the file `path`, which appears when they are finished.

    Until then they are in `path`.partial, and `path`.partial.json says what they are of and how many rows are there. If
    both were left by a run with the same `settings`, they are continued; else they begin anew, and `note` is told why.

    Args:
        format: name in FORMATS.
        colours: [256, 3] uint8, of the labels.
        settings: all that the labels depend on, by name, as JSON knows it.
        note: takes a line for the user.

    Attributes:
        rows: rows that are there.

    Raises:
        BlockingIOError: another process writes the same labels.
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        size: tuple[int, int],
        colours: np.ndarray,
        settings: Mapping[str, Any],
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.path = path
        self._target = Path(os.path.realpath(path))
        if self._target.is_dir():
            raise IsADirectoryError(f"cannot write {path}: it is a directory")
        self._state_path = self._beside(STATE)
        self._settings = {"version": _VERSION, "format": format, "size": list(size), **settings}
        self._file = AppendedFile(self._beside(PARTIAL))
        try:
            state = self._state_to_resume(note)
            if state is None:
                self._state_path.unlink(missing_ok=True)
                self._file.begin()
            self._labels = FORMATS[format][0](self._file, size, colours, state)
            if state is not None:
                note(f"{path}: continued from row {self.rows} of {size[0]}")
        except BaseException:
            self._file.close()
            raise

    @property
    def rows(self) -> int:
        """Rows that are there."""
        return self._labels.rows

    def write(self, labels: np.ndarray) -> None:
        """Adds `labels` [n, W] uint8. Raises OSError if they cannot be written."""
        self._labels.write(labels)

    def synchronise(self) -> None:
        """Makes the rows so far safe: a later process continues after them. Raises OSError as `write`."""
        state = self._labels.synchronise()
        self._file.sync()
        record = {
            "settings": self._settings,
            "length": self._file.length,
            "checksum": self._file.checksum,
            "labels": state,
        }
        with atomic_write(self._state_path) as file:
            file.write(json.dumps(record).encode())

    def finish(self) -> None:
        """Gives the labels, which must be complete, the name `path`. Raises OSError as `write`."""
        self._labels.finish()
        self._file.put_in_place(self._target)
        self._state_path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Lets go of the files; an unfinished one can be continued."""
        self._file.close()

    def _beside(self, ending: str) -> Path:
        return self._target.with_name(self._target.name + ending)

    def _state_to_resume(self, note: Callable[[str], None]) -> Mapping[str, Any] | None:
        if not self._state_path.exists():
            return None
        try:
            record = json.loads(self._state_path.read_bytes())
            before, state = record["settings"], record["labels"]
            place = record["length"], record["checksum"]
        except (OSError, ValueError, KeyError, TypeError):
            note(f"{self.path}: begun anew: {self._state_path} is not readable")
            return None
        other = sorted(name for name in {*before, *self._settings} if before.get(name) != self._settings.get(name))
        if other:
            note(f"{self.path}: begun anew: the unfinished labels are of another {', '.join(other)}")
            return None
        if not self._file.resume(*place):
            note(f"{self.path}: begun anew: the unfinished labels are not as they were left")
            return None
        return state
