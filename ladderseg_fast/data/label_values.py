"""Classes of the values in a label image."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from .label_colours import BLUR_ADVICE, BLURRED, LabelColours
from .label_set import IGNORE_INDEX


class LabelValues:
    """Meanings of the values in label images.

    Args:
        classes: the class of each value, 0 to 254.
        ignored: values, 0 to 255, of pixels without a class.
        colours: the meanings of colours, if RGB label images are allowed.

    Raises:
        ValueError: a value or a class is out of range, or a value has two meanings.
    """

    def __init__(
        self,
        classes: Mapping[int, int],
        ignored: Collection[int] = (IGNORE_INDEX,),
        colours: LabelColours | None = None,
    ) -> None:
        for value in (*classes, *ignored):
            if not 0 <= value <= 255:
                raise ValueError(f"a label value must be 0 to 255, got {value}")
        for index in classes.values():
            if not 0 <= index < IGNORE_INDEX:
                raise ValueError(f"a class must be 0 to {IGNORE_INDEX - 1}, got {index}")
        both = sorted(set(classes) & set(ignored))
        if both:
            raise ValueError(f"label value {both[0]} is both a class and ignored")
        self.colours = colours
        self._ignored = tuple(ignored)
        self._table = np.full(256, IGNORE_INDEX, np.uint8)
        self._table[list(classes)] = list(classes.values())
        self._known = np.zeros(256, bool)
        self._known[[*classes, *ignored]] = True

    @classmethod
    def plain(cls, count: int, ignored: Collection[int] = (IGNORE_INDEX,)) -> "LabelValues":
        """Makes value k class k, for the classes 0 to `count` - 1."""
        return cls({k: k for k in range(count)}, ignored)

    def to_classes(self, values: np.ndarray, path: Path) -> np.ndarray:
        """Turns `values` of the label image in `path` into classes and IGNORE_INDEX, uint8 [H, W].

        `values` is uint8 [H, W], or [H, W, 3] with the colours of an RGB image.

        Raises:
            ValueError: a value is neither a class nor ignored; the message says which, and where in `path`. Colours:
                as LabelColours.to_classes.
        """
        if values.ndim == 3:
            return self._colours_needed().to_classes(values, path)
        known = self._known[values]
        if not known.all():
            row, column = np.unravel_index(np.argmin(known), known.shape)
            unknown = len(np.unique(values[~known]))
            blurred = f"; {unknown} values are unknown, {BLUR_ADVICE}" if unknown >= BLURRED else ""
            raise ValueError(
                f"{path}: labels must be {_in_words(np.flatnonzero(self._known))}, found {values[row, column]} "
                f"(row {row}, column {column}, and {known.size - np.count_nonzero(known)} such pixels in all){blurred}"
            )
        return self._table[values]

    def ignored(self, values: np.ndarray) -> Counter[str]:
        """Counts the pixels of each ignored value or colour in a label image, [H, W] or [H, W, 3]."""
        if values.ndim == 3:
            return self._colours_needed().ignored(values)
        counts = np.bincount(values.ravel(), minlength=256)
        return Counter({str(value): int(counts[value]) for value in self._ignored if counts[value]})

    def _colours_needed(self) -> LabelColours:
        assert self.colours is not None, "label images of a data set without colours are not read as RGB"
        return self.colours

    def check_palette(self, values: np.ndarray, palette: np.ndarray, path: Path) -> None:
        """Raises ValueError if `palette`, [N, 3] uint8, of the label image in `path` contradicts its `values`, [H, W].

        It does if a program stored a picture of the classes' colours with a palette of its own, whose values are in any
        order. Colours of no class say nothing.
        """
        colours = self._colours_needed()
        used = [value for value in np.unique(values).tolist() if value not in self._ignored]
        if any(value >= len(palette) for value in used):
            return
        by_colour = [colours.meaning(tuple(palette[value].tolist())) for value in used]
        meanings = [meaning for meaning in by_colour if meaning is not None]
        if len(meanings) < len(used):
            return
        for value, meaning in zip(used, meanings, strict=True):
            if not self._known[value] or self._table[value] != meaning:
                by_value = colours.name(self._table[value]) if self._known[value] else "no class"
                raise ValueError(
                    f"{path}: value {value} is {by_value}, but its colour in the palette, "
                    f"{tuple(palette[value].tolist())}, is that of {colours.name(meaning)}: save the labels as "
                    "RGB if the colours are right, as grey if the values are"
                )


def _in_words(values: np.ndarray) -> str:
    """Writes [0, 1, 2, 255] as "0 to 2 or 255"."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return " or ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
