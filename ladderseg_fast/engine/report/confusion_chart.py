"""Confusion matrix as SVG."""

from collections.abc import Sequence
from html import escape

from .svg import element, picture, text

#: Width of all cells, as far as it goes, and the sizes of a single one.
_CELLS, _LARGEST, _SMALLEST = 860, 48, 5
#: Cells hold numbers from this size on.
_NUMBERS = 25
_LEFT, _TOP, _RIGHT = 120, 110, 70
#: Shares below half a percent are left blank: they would read 0.
_LEAST = 0.005


def confusion_chart(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Chart of each true class (row): the shares, in percent, of its pixels by predicted class (column)."""
    cell = max(_SMALLEST, min(_LARGEST, _CELLS / len(names)))
    side = cell * len(names)
    parts = [element("rect", x=_LEFT, y=_TOP, width=side, height=side, class_="cells")]
    for i, (row, name) in enumerate(zip(counts, names, strict=True)):
        middle = (i + 0.5) * cell
        parts.append(text(_LEFT - 8, _TOP + middle, name, class_="name", text_anchor="end", dy="0.35em"))
        x, y = _LEFT + middle, _TOP - 8
        parts.append(text(x, y, name, class_="name", dy="0.35em", transform=f"rotate(-50 {x:.1f} {y:.1f})"))
        parts += _row(row, names, i, cell)
    return picture(_LEFT + side + _RIGHT, _TOP + side + 4, "confusion matrix", *parts)


def _row(row: Sequence[int], names: Sequence[str], i: int, cell: float) -> list[str]:
    total = sum(row)
    if total == 0:
        return [text(_LEFT + 6, _TOP + (i + 0.5) * cell, "does not occur", class_="tick", dy="0.35em")]
    parts = []
    for j, count in enumerate(row):
        share = count / total
        if share < _LEAST:
            continue
        x, y = _LEFT + j * cell, _TOP + i * cell
        note = f"{names[i]} taken for {names[j]}" if i != j else f"{names[i]} found"
        title = element("title", escape(f"{note}: {share:.1%} ({count} pixels)"))
        kind = "right" if i == j else "wrong"
        parts.append(
            element("rect", title, x=x, y=y, width=cell, height=cell, class_=f"cell {kind}", fill_opacity=share**0.5)
        )
        if cell >= _NUMBERS:
            strong = " strong" if share > 0.35 else ""
            number = f"{100 * share:.0f}"
            middle = (x + cell / 2, y + cell / 2)
            parts.append(text(*middle, number, class_=f"number{strong}", text_anchor="middle", dy="0.35em"))
    return parts
