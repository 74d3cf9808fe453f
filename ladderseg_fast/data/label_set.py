"""Names and display colours of a data set's classes."""

from dataclasses import dataclass

import numpy as np

#: Label of pixels that count neither in the loss nor in a metric, in every data set of this package.
IGNORE_INDEX = 255


@dataclass(frozen=True)
class LabelSet:
    """Names and colours of 1 to 255 classes: class k is `names[k]`, drawn in `palette[k]`, (R, G, B) from 0 to 255.

    Raises:
        ValueError: names and palette differ in length, there are too many classes or none, or a colour is out of range.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= IGNORE_INDEX:
            raise ValueError(f"a label set needs 1 to {IGNORE_INDEX} classes, got {len(self.names)}")
        if len(self.names) != len(self.palette):
            raise ValueError(f"{len(self.names)} class names but {len(self.palette)} colours")
        for colour in self.palette:
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise ValueError(f"a colour is three numbers from 0 to 255, got {colour}")

    def __len__(self) -> int:
        return len(self.names)

    def colour_table(self) -> np.ndarray:
        """Table of the colours of all 8-bit labels, [256, 3] uint8; black for what is no class."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.palette
        return table
