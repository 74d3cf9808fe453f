"""Predictions as the files that benchmark servers accept."""

from pathlib import Path

from ...data import DATA_SETS, RESULT_FORMATS, LabelSet
from ..overlay import write_png
from .data_set import Prediction


class Export:
    """Writes predictions in the layout and encoding of `name`, one of RESULT_FORMATS, below `directory`.

    Raises:
        ValueError: the format is unknown, or the classes are not the benchmark's.
    """

    def __init__(self, name: str, directory: Path, label_set: LabelSet) -> None:
        if name not in RESULT_FORMATS:
            raise ValueError(f"unknown format {name!r}; known are {', '.join(RESULT_FORMATS)}")
        benchmark = DATA_SETS[name].label_set
        if benchmark is None or label_set.names != benchmark.names:
            raise ValueError(f"the format {name} is for that benchmark's classes, but these are {_listed(label_set)}")
        self.directory = directory
        self.count = 0
        """Files written."""
        self._format = RESULT_FORMATS[name]

    def write(self, prediction: Prediction) -> None:
        """Writes one file.

        Raises:
            OSError: the file cannot be written; the message names it.
        """
        path = self.directory / self._format.path(prediction.sample.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, self._format.image(prediction.labels))
        self.count += 1


def _listed(label_set: LabelSet) -> str:
    shown = ", ".join(label_set.names[:3])
    return shown if len(label_set) <= 3 else f"{shown}, ... ({len(label_set)})"
