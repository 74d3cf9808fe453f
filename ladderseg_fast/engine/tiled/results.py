"""Files of results for one image, written together from top to bottom."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...data import ImageForm, LabelSet
from ...data.display import Ranges, looked_at_step, shown_ranges
from ..overlay import overlay
from .array_windows import ArrayWindows
from .georeference import georeference
from .open_windows import open_windows
from .result_file import FORMATS, PLANES, ResultFile
from .result_rows import ResultRows
from .row_format import RowForm
from .tiff_directory import TiffTag, text_tag
from .windows import OpenFile, Windows

#: Results whose format can be chosen: what the ends of their names begin with.
_PICTURES = {"labels": "_labels", "overlays": "_overlay", "colours": "_colours"}
_PROBABILITIES, _PROBABILITIES_ENDING = "probabilities-tiff", "_probabilities.tif"
#: Tag of a TIFF's description.
_DESCRIPTION = 270

#: Kinds of results that can be written in rows.
KINDS = (*_PICTURES, _PROBABILITIES)


def in_order(kinds: Collection[str]) -> list[str]:
    """Selects those of KINDS that are in `kinds`."""
    return [kind for kind in KINDS if kind in kinds]


def result_endings(kinds: Collection[str], format: str) -> list[str]:
    """Ends of the names of the results `kinds`, in the order of KINDS; `format` is that of those that have a choice."""
    endings = {kind: start + FORMATS[format][1] for kind, start in _PICTURES.items()}
    endings[_PROBABILITIES] = _PROBABILITIES_ENDING
    return [endings[kind] for kind in in_order(kinds)]


class TiledResults(OpenFile):
    """Several files of results for one image; see ResultFile.

    Args:
        files: of them.
        open_files: closes them, and what they are drawn from.
    """

    def __init__(self, files: Sequence[ResultFile], open_files: ExitStack) -> None:
        self._files, self._open_files = files, open_files

    @property
    def paths(self) -> list[Path]:
        """Names that the files get when they are finished."""
        return [file.path for file in self._files]

    @property
    def rows(self) -> int:
        """Rows that all files have."""
        return min(file.rows for file in self._files)

    def write(self, rows: ResultRows) -> None:
        """Adds `rows` to each file that lacks them. Raises OSError if they cannot be written."""
        for file in self._files:
            file.write(rows)

    def synchronise(self) -> None:
        """Makes the rows so far safe. Raises OSError as `write`."""
        for file in self._files:
            file.synchronise()

    def finish(self) -> None:
        """Gives the files, whose rows must all be there, their names. Raises OSError as `write`."""
        for file in self._files:
            file.complete()
        for file in self._files:
            file.finish()

    def close(self) -> None:
        """Lets go of the files; unfinished ones can be continued."""
        self._open_files.close()


class TiledImage(NamedTuple):
    """An image that results are for."""

    path: Path
    windows: Windows
    """Reader of it."""
    form: ImageForm
    """Form that it was opened with."""


def open_results(
    output: Callable[[str], Path],
    kinds: Collection[str],
    format: str,
    image: TiledImage,
    label_set: LabelSet,
    settings: Mapping[str, Any],
    note: Callable[[str], None] = lambda line: None,
) -> TiledResults:
    """Begins or continues the results for `image`. TIFFs have the place on the earth that a GeoTIFF has.

    Args:
        output: path of a result, by the end of its name.
        kinds: names of KINDS.
        format: name in FORMATS, of the results that have a choice.
        settings: all that the results depend on, by name.
        note: takes a line for the user.

    Raises:
        BlockingIOError: another process writes one of them.
        OSError: a file cannot be written, or the image not read.
    """
    size, colours, tags = image.windows.size, label_set.colour_table(), georeference(image.path)
    if tags and format != "tiff" and set(kinds) & set(_PICTURES):
        note(f"{image.path}: --format tiff would keep the coordinates of this GeoTIFF")
    rgb = RowForm(size, channels=3, tags=tags)
    with ExitStack() as files:
        opened = []
        for kind, ending in zip(in_order(kinds), result_endings(kinds, format), strict=True):
            draw: Callable[[ResultRows], np.ndarray]
            if kind == "labels":
                written, form, draw = format, RowForm(size, palette=colours, tags=tags), lambda rows: rows.labels
            elif kind == "colours":
                written, form, draw = format, rgb, lambda rows: colours[rows.labels]
            elif kind == "overlays":
                written, form, draw = format, rgb, _Overlay(files.enter_context(_reader(image)), label_set)
            else:
                written, form, draw = PLANES, _planes(size, label_set, tags), lambda rows: rows.probabilities
            opened.append(files.enter_context(ResultFile(output(ending), written, form, settings, note, draw)))
        return TiledResults(opened, files.pop_all())


class _Overlay:
    """Draws overlays over the pixels that `image` reads, a second time, from top to bottom."""

    def __init__(self, image: Windows, label_set: LabelSet) -> None:
        self._image, self._label_set = image, label_set
        self._ranges = None if image.dtype == np.uint8 else _shown_ranges(image)

    def __call__(self, rows: ResultRows) -> np.ndarray:
        """Overlay [n, W, 3] uint8 of some rows."""
        pixels = self._image.read(rows.top, rows.bottom, 0, self._image.size[1])
        return overlay(pixels, rows.labels, self._label_set, self._ranges)


def _reader(image: TiledImage) -> AbstractContextManager[Windows]:
    """Reader of the same image that goes down it by itself."""
    if isinstance(image.windows, ArrayWindows):  # which has no place where it is
        return nullcontext(image.windows)
    return closing(open_windows(image.path, image.form))


def _shown_ranges(image: Windows) -> Ranges:
    """Finds the ranges that shown_ranges gives of the whole image, of which a row at a time is read."""
    step, (height, width) = looked_at_step(image.size), image.size
    rows = [image.read(top, top + 1, 0, width)[0, ::step] for top in range(0, height, step)]
    return shown_ranges(np.stack(rows))


def _planes(size: tuple[int, int], label_set: LabelSet, tags: tuple[TiffTag, ...]) -> RowForm:
    """Form of the probabilities' planes, with a description that tifffile understands."""
    names = list(label_set.names)
    description = json.dumps({"shape": [len(names), *size], "axes": "CYX", "classes": names})
    return RowForm(size, len(names), tags=(*tags, text_tag(_DESCRIPTION, description)))
