"""SVG chart of every class's IoU, and its course."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .history import Points
from .svg import element, line, picture, text

_WIDTH = 1120
#: The bars' axis from 0 to 1, and the little curves beside it.
_BARS, _CURVES = (150, 800), (890, 1110)
_BAR, _GAP, _TOP = 13, 9, 26


@dataclass(frozen=True)
class Bar:
    """One run's value of one class, and its course."""

    run: str
    colour: int
    value: float | None
    """Value from 0 to 1; None if the class did not occur."""
    course: Points


def bar_chart(rows: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Chart with a group of bars for each (class, bars of the runs) of `rows`: their numbers, and the course of the
    values.
    """
    heights = [max(24, _BAR * len(bars)) for _, bars in rows]
    height = _TOP + sum(heights) + _GAP * len(rows)
    left, right = _BARS
    parts = []
    for percent in range(0, 101, 20):
        x = left + (right - left) * percent / 100
        parts.append(line(x, _TOP - 6, x, height, "grid"))
        parts.append(text(x, 12, f"{percent} %", class_="tick", text_anchor="middle"))
    parts.append(text(_CURVES[0], 12, "over the epochs, 0 to 100 %", class_="tick"))
    last = max((epoch for _, bars in rows for bar in bars for epoch, _ in bar.course), default=0.0)
    if last <= 0.0:
        last = 1.0
    y = float(_TOP)
    for (name, bars), row_height in zip(rows, heights, strict=True):
        parts.append(text(left - 10, y + row_height / 2, name, class_="name", text_anchor="end", dy="0.35em"))
        bar_height = row_height / len(bars)
        for i, bar in enumerate(bars):
            parts += _bar(bar, name, y + i * bar_height, bar_height)
        parts += _courses(bars, y, row_height, last)
        y += row_height + _GAP
    return picture(_WIDTH, height, "IoU of every class", *parts)


def _bar(bar: Bar, name: str, y: float, height: float) -> list[str]:
    left, right = _BARS
    length = (right - left) * (bar.value or 0.0)
    number = "does not occur" if bar.value is None else f"{100 * bar.value:.1f}"
    note = element("title", escape(f"{bar.run}, {name}: {number}"))
    body = element("rect", note, x=left, y=y + 1, width=length, height=height - 2, class_=f"bar c{bar.colour}")
    return [body, text(left + length + 6, y + height / 2, number, class_="tick", dy="0.35em")]


def _courses(bars: Sequence[Bar], y: float, height: float, last: float) -> list[str]:
    left, right = _CURVES
    parts = [element("rect", x=left, y=y, width=right - left, height=height, class_="box")]
    for bar in bars:
        places = [(left + (right - left) * epoch / last, y + height * (1 - value)) for epoch, value in bar.course]
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(element("polyline", points=points, class_=f"spark c{bar.colour}"))
    return parts
