"""Curves over epochs, as SVG."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ..plotting import ticks
from .history import Points
from .svg import element, line, picture, text

#: About the width of half a page.
_WIDTH, _HEIGHT = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 40
#: A curve has no more points than this; the screen shows no more.
_MOST_POINTS = 800
#: Axes of less, which have all values in one place, become one unit long.
_LEAST_SPAN = 1e-30


@dataclass(frozen=True)
class Curve:
    """One curve in colour number `colour`."""

    name: str
    points: Points
    colour: int = 0
    pale: Points | None = None
    """Drawn behind it in a paler tone."""
    dots: bool = False
    """Mark every point."""


def line_chart(
    title: str,
    curves: Sequence[Curve],
    limits: tuple[float, float],
    label: Callable[[float], str] = lambda value: f"{value:g}",
) -> str:
    """Chart of `curves`, at least one of which has a point.

    Args:
        title: names the values, for readers who cannot see the chart.
        limits: ends of the vertical axis; values beyond are cut off.
        label: text of a value at the axis and at a dot.
    """
    low, high = limits
    if high - low < _LEAST_SPAN:
        high = low + 1.0
    last = max(epoch for curve in curves for epoch, _ in curve.points)
    if last < _LEAST_SPAN:
        last = 1.0
    x0, x1, y0, y1 = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        epoch, value = point[0], min(high, max(low, point[1]))
        return x0 + (x1 - x0) * epoch / last, y1 - (y1 - y0) * (value - low) / (high - low)

    parts = []
    for value in ticks(low, high, 5):
        y = place((0.0, value))[1]
        parts.append(line(x0, y, x1, y, "grid"))
        parts.append(text(x0 - 8, y, label(value), class_="tick", text_anchor="end", dy="0.35em"))
    for epoch in ticks(0.0, last, 8):
        x = place((epoch, low))[0]
        parts += [line(x, y1, x, y1 + 4, "axis"), text(x, y1 + 17, f"{epoch:g}", class_="tick", text_anchor="middle")]
    parts += [line(x0, y1, x1, y1, "axis"), text(x1, y1 + 34, "epoch", class_="tick", text_anchor="end")]
    for curve in curves:
        if curve.pale:
            parts.append(_path(map(place, thinned(curve.pale)), f"pale c{curve.colour}"))
    for curve in curves:
        parts.append(_path(map(place, thinned(curve.points)), f"curve c{curve.colour}"))
        # A single point makes no line.
        if curve.dots or len(curve.points) == 1:
            parts += [_dot(place(point), point, curve, label) for point in curve.points]
    return picture(_WIDTH, _HEIGHT, title, *parts)


def thinned(points: Points) -> Points:
    """Thins `points` to what a screen can show: the lowest and the highest of every few neighbours, in their order."""
    if len(points) <= _MOST_POINTS:
        return points
    buckets = _MOST_POINTS // 2
    kept = []
    for i in range(buckets):
        bucket = points[len(points) * i // buckets : len(points) * (i + 1) // buckets]
        ends = {bucket.index(choice(bucket, key=lambda point: point[1])) for choice in (min, max)}
        kept += [bucket[j] for j in sorted(ends)]
    return kept


def score_limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis: the tenth below all `values` of 0 to 1, and the tenth above."""
    low = max(0, int(10 * min(values)))
    high = min(10, int(10 * max(values)) + 1)
    return min(low, high - 1) / 10, high / 10


def _path(places: Iterable[tuple[float, float]], class_: str) -> str:
    # To a tenth of a unit: a page may hold thousands of points.
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_=class_)


def _dot(place: tuple[float, float], point: tuple[float, float], curve: Curve, label: Callable[[float], str]) -> str:
    note = element("title", escape(f"{curve.name}: {label(point[1])} at epoch {point[0]:.4g}"))
    return element("circle", note, cx=place[0], cy=place[1], r=3, class_=f"dot c{curve.colour}")
