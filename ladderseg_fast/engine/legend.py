"""Legend of class colours."""

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data import IGNORE_INDEX, LabelSet

_INK, _PAPER = (30, 30, 30), (255, 255, 255)
#: Colour of pixels without a class, in `comparison` and in an overlay's truth.
_DARK = (48, 48, 48)
_ROW, _SWATCH, _SPACE, _MARGIN = 24, 14, 18, 4
#: Distance, down and right, from a swatch to its name.
_INDENT = _SWATCH + 6


def legend(label_set: LabelSet, classes: Collection[int], width: int) -> Image.Image:
    """A picture `width` pixels wide, or as wide as its longest entry: colours and names of `classes`, in rows.

    `classes` are class numbers; IGNORE_INDEX among them means pixels that the labels ignore.
    """
    font = ImageFont.load_default(15)
    # A name may hold line breaks, which Pillow does not measure.
    entries = [
        (" ".join(label_set.names[k].split()), label_set.palette[k]) for k in sorted(classes) if k < len(label_set)
    ]
    if IGNORE_INDEX in classes:
        entries.append(("ignored", _DARK))
    widths = [_INDENT + int(font.getlength(name)) + _SPACE for name, _ in entries]
    width = max([width, *(entry + _MARGIN for entry in widths)])
    rows = _rows(widths, width - _MARGIN)
    picture = Image.new("RGB", (width, _ROW * len(rows)), _PAPER)
    draw = ImageDraw.Draw(picture)
    for number, row in enumerate(rows):
        left, middle = _MARGIN, _ROW * number + _ROW // 2
        for i in row:
            name, colour = entries[i]
            box = (left, middle - _SWATCH // 2, left + _SWATCH, middle + _SWATCH // 2)
            draw.rectangle(box, fill=colour, outline=_INK)
            draw.text((left + _INDENT, middle), name, fill=_INK, font=font, anchor="lm")
            left += widths[i]
    return picture


def present_classes(*labels: np.ndarray) -> set[int]:
    """The classes, and IGNORE_INDEX, that occur in one of `labels`, uint8 of any shape."""
    return {int(k) for some in labels for k in np.unique(some)}


def _rows(widths: Sequence[int], room: int) -> list[list[int]]:
    """Numbers of the entries in each row, filled from the left as far as there is room."""
    rows: list[list[int]] = []
    left = room
    for i, width in enumerate(widths):
        if not rows or left < width:
            rows.append([])
            left = room
        rows[-1].append(i)
        left -= width
    return rows
