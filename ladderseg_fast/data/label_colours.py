"""Classes of the colours in a label image."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

from .label_set import IGNORE_INDEX, LabelSet

Colour = tuple[int, int, int]

#: Number of unknown colours or values in one label image from which it is blurred, rather than classes forgotten.
BLURRED = 8
BLUR_ADVICE = (
    "as after JPEG compression or resizing with interpolation: export the labels as PNG from where they were drawn"
)


class LabelColours:
    """Meanings of the colours in an RGB label image: exactly those of `label_set`, and the `ignored` ones.

    Raises:
        ValueError: an ignored colour is out of range, or the colour of a class.
    """

    def __init__(self, label_set: LabelSet, ignored: Collection[Colour] = ()) -> None:
        for colour in ignored:
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise ValueError(f"an ignored colour is three numbers from 0 to 255, got {colour}")
            if colour in label_set.palette:
                name = label_set.names[label_set.palette.index(colour)]
                raise ValueError(f"colour {colour} is both that of class {name!r} and ignored")
        self._label_set = label_set
        self._ignored = tuple(ignored)
        classes = {_code(colour): k for k, colour in enumerate(label_set.palette)}
        meaning = sorted((classes | {_code(colour): IGNORE_INDEX for colour in ignored}).items())
        self._codes = np.array([code for code, _ in meaning], np.uint32)
        self._meanings = np.array([k for _, k in meaning], np.uint8)

    def to_classes(self, pixels: np.ndarray, path: Path) -> np.ndarray:
        """Turns the colours of the label image in `path`, uint8 [H, W, 3], into classes and IGNORE_INDEX, uint8 [H, W].

        Raises:
            ValueError: two classes have the same colour; or a colour is of no class and not ignored: the message says
                which, how often it occurs in `path`, and which class has the nearest colour.
        """
        self._check_different(path)
        codes = _codes(pixels)
        places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        known = self._codes[places] == codes
        if not known.all():
            raise ValueError(f"{path}: {self._unknown(pixels, codes, known)}")
        return self._meanings[places]

    def ignored(self, pixels: np.ndarray) -> Counter[str]:
        """Counts the pixels of each ignored colour in `pixels`, uint8 [H, W, 3]."""
        codes = _codes(pixels)
        return +Counter({str(colour): int((codes == _code(colour)).sum()) for colour in self._ignored})

    def meaning(self, colour: Colour) -> int | None:
        """Returns the class of `colour` or IGNORE_INDEX; None if it is unknown or that of several classes."""
        if colour in self._ignored:
            return IGNORE_INDEX
        return self._label_set.palette.index(colour) if self._label_set.palette.count(colour) == 1 else None

    def name(self, k: int) -> str:
        """Names class `k`, or IGNORE_INDEX, for a message."""
        return "ignored" if k == IGNORE_INDEX else f"class {k}, {self._label_set.names[k]!r}"

    def _check_different(self, path: Path) -> None:
        owners: dict[Colour, str] = {}
        for name, colour in zip(self._label_set.names, self._label_set.palette, strict=True):
            if colour in owners:
                raise ValueError(
                    f"{path}: the label image is RGB, but the classes {owners[colour]!r} and {name!r} have the same "
                    f"colour, {colour}"
                )
            owners[colour] = name

    def _unknown(self, pixels: np.ndarray, codes: np.ndarray, known: np.ndarray) -> str:
        """Describes the most frequent colour that is not `known`."""
        unknown, counts = np.unique(codes[~known], return_counts=True)
        code = int(unknown[counts.argmax()])
        colour = (code >> 16, code >> 8 & 255, code & 255)
        row, column = np.unravel_index(np.argmax(codes == code), codes.shape)
        distances = np.abs(np.array(self._label_set.palette, int) - colour).sum(1)
        k = int(distances.argmin())
        text = (
            f"the label image is RGB, and the colour {colour} of {counts.max()} of its {codes.size} pixels (the first "
            f"in row {row}, column {column}) is none of the classes'; nearest is {self._label_set.palette[k]}, "
            f"{self.name(k)}"
        )
        if len(unknown) >= BLURRED:
            return f"{text}; {len(unknown)} colours are unknown, {BLUR_ADVICE}"
        if (pixels == pixels[..., :1]).all():
            return f"{text}; its three channels are the same: save it as a grey PNG if they hold the classes' values"
        more = len(unknown) - 1
        others = f"; {more} more {'colour is' if more == 1 else 'colours are'} unknown" if more else ""
        return f"{text}{others}; `ignore_colours` lists those without a class"


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Packs each colour of `pixels`, uint8 [H, W, 3], into one number, [H, W] uint32."""
    red, green, blue = (pixels[..., i].astype(np.uint32) for i in range(3))
    return red << 16 | green << 8 | blue
