"""From the values in a label image to classes."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from .label_set import IGNORE_INDEX


class LabelValues:
    """What the values in a data set's label images mean.

    Args:
        classes: the class of each value, 0 to 254.
        ignored: values, 0 to 255, of pixels without a class.

    Raises:
        ValueError: a value or a class is out of range, or a value means two things.
    """

    def __init__(self, classes: Mapping[int, int], ignored: Collection[int] = (IGNORE_INDEX,)) -> None:
        for value in (*classes, *ignored):
            if not 0 <= value <= 255:
                raise ValueError(f"a label value must be 0 to 255, got {value}")
        for index in classes.values():
            if not 0 <= index < IGNORE_INDEX:
                raise ValueError(f"a class must be 0 to {IGNORE_INDEX - 1}, got {index}")
        both = sorted(set(classes) & set(ignored))
        if both:
            raise ValueError(f"label value {both[0]} is both a class and ignored")
        self._table = np.full(256, IGNORE_INDEX, np.uint8)
        self._table[list(classes)] = list(classes.values())
        self._known = np.zeros(256, bool)
        self._known[[*classes, *ignored]] = True

    @classmethod
    def plain(cls, count: int, ignored: Collection[int] = (IGNORE_INDEX,)) -> "LabelValues":
        """Value k is class k, for the classes 0 to `count` - 1."""
        return cls({k: k for k in range(count)}, ignored)

    def to_classes(self, values: np.ndarray, path: Path) -> np.ndarray:
        """uint8 -> uint8 [H, W]: classes and IGNORE_INDEX for the values of the label image in `path`.

        Raises:
            ValueError: a value is neither a class nor ignored; the message says which, and where in `path`.
        """
        known = self._known[values]
        if not known.all():
            row, column = np.unravel_index(np.argmin(known), known.shape)
            raise ValueError(
                f"{path}: labels must be {_in_words(np.flatnonzero(self._known))}, found {values[row, column]} "
                f"(row {row}, column {column}, and {known.size - np.count_nonzero(known)} such pixels in all)"
            )
        return self._table[values]


def _in_words(values: np.ndarray) -> str:
    """[0, 1, 2, 255] -> "0 to 2 or 255"."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return " or ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
