"""File of results that is written strip by strip, and continued after an interruption."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_file import atomic_write
from .appended_file import AppendedFile
from .npy_rows import NpyRows
from .png_rows import PngRows
from .result_rows import ResultRows
from .row_format import RowForm, RowFormat
from .tiff_planes import TiffPlanes
from .tiff_rows import TiffRows
from .windows import OpenFile

#: What writes pixels of one or three channels, and the ending of its files.
FORMATS: dict[str, tuple[type[RowFormat], str]] = {
    "png": (PngRows, ".png"),
    "tiff": (TiffRows, ".tif"),
    "npy": (NpyRows, ".npy"),
}
#: What writes planes.
PLANES = "planes"
_WRITERS: dict[str, type[RowFormat]] = {**{name: writer for name, (writer, _) in FORMATS.items()}, PLANES: TiffPlanes}

_VERSION = 2
#: Endings of what is beside the result until it is finished: its rows so far, and how far they are.
PARTIAL, STATE = ".partial", ".partial.json"


class ResultFile(OpenFile):
    """Pixels of a result on their way into the file `path`, which appears when they are finished.

    Until then they are in `path`.partial, and `path`.partial.json says what they are of and how many rows are there. If
    both were left by a run with the same `settings`, they are continued; else they begin anew, and `note` is told why.

    Args:
        format: name in FORMATS, or PLANES.
        form: of the pixels.
        settings: all that they depend on, by name, as JSON knows it.
        note: takes a line for the user.
        draw: makes the pixels of some rows, as RowFormat.write takes them.

    Attributes:
        rows: rows that are there, or will be once they are synchronised. Those before them are passed over.

    Raises:
        BlockingIOError: another process writes the same file.
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        form: RowForm,
        settings: Mapping[str, Any],
        note: Callable[[str], None] = lambda line: None,
        draw: Callable[[ResultRows], np.ndarray] = lambda rows: rows.labels,
    ) -> None:
        self.path, self._draw = path, draw
        self._target = Path(os.path.realpath(path))
        if self._target.is_dir():
            raise IsADirectoryError(f"cannot write {path}: it is a directory")
        self._state_path = self._beside(STATE)
        self._settings = {"version": _VERSION, "format": format, "size": list(form.size), **settings}
        self._file = AppendedFile(self._beside(PARTIAL))
        try:
            state = self._state_to_resume(note)
            if state is None:
                self._state_path.unlink(missing_ok=True)
                self._file.begin()
            self._rows = _WRITERS[format](self._file, form, state)
            self._next = self._safe = self.rows
            self._complete = self._finished = False
            if state is not None:
                note(f"{path}: continued from row {self.rows} of {form.size[0]}")
        except BaseException:
            self._file.close()
            raise

    @property
    def rows(self) -> int:
        """Rows that are there."""
        return self._rows.rows

    def write(self, rows: ResultRows) -> None:
        """Adds the pixels of `rows` that are not there. Raises OSError if they cannot be written."""
        assert rows.top <= self._next, "rows must follow each other"
        if rows.bottom > self._next:
            self._rows.write(self._draw(rows)[self._next - rows.top :])
            self._next = rows.bottom

    def synchronise(self) -> None:
        """Makes the rows so far safe: a later process continues after them. Raises OSError as `write`."""
        if self._safe == self._next:  # an end of a block of nothing would be bytes that another run does not have
            return
        state = self._rows.synchronise()
        self._file.sync()
        record: dict[str, Any] = {
            "settings": self._settings,
            "length": self._file.length,
            "checksum": self._file.checksum,
            "pixels": state,
        }
        record["digest"] = _digest(record)
        with atomic_write(self._state_path) as file:
            file.write(json.dumps(record).encode())
        self._safe = self._next

    def complete(self) -> None:
        """Completes the file, whose rows must all be there, but leaves it where it is. Raises OSError as `write`."""
        if not self._complete:
            self._rows.finish()
            self._file.sync()
            self._complete = True

    def finish(self) -> None:
        """Completes the file, and gives it the name `path`. Raises OSError as `write`."""
        self.complete()
        self._file.put_in_place(self._target)
        self._finished = True
        self._state_path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Lets go of the files. An unfinished one can be continued; one without safe rows, which cannot, is removed."""
        if not self._finished and not self._state_path.exists():
            self._file.path.unlink(missing_ok=True)
        self._file.close()

    def _beside(self, ending: str) -> Path:
        return self._target.with_name(self._target.name + ending)

    def _state_to_resume(self, note: Callable[[str], None]) -> Mapping[str, Any] | None:
        if not self._state_path.exists():
            return None
        try:
            record = json.loads(self._state_path.read_bytes())
            if record.pop("digest") != _digest(record):
                raise ValueError("damaged")
            before, state = record["settings"], record["pixels"]
            place = record["length"], record["checksum"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            note(f"{self.path}: begun anew: {self._state_path} is not readable")
            return None
        other = sorted(name for name in {*before, *self._settings} if before.get(name) != self._settings.get(name))
        if other:
            note(f"{self.path}: begun anew: what is unfinished is of another {', '.join(other)}")
            return None
        if not self._file.resume(*place):
            note(f"{self.path}: begun anew: what is unfinished is not as it was left")
            return None
        return state


def _digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of what the file of the state says, so that damage in it is noticed."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
