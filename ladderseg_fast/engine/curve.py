"""Picture of a training's course: loss above, scores on the validation split below."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .overlay import write_png
from .plotting import loss_limit, moving_average, ticks

_WIDTH, _PANEL_HEIGHT, _TITLE_HEIGHT = 900, 330, 44
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 24, 34, 48
_INK, _GRID = (40, 40, 40), (225, 225, 225)
_PALE_BLUE, _BLUE, _ORANGE, _GREEN = (185, 205, 235), (31, 90, 170), (205, 95, 20), (40, 130, 60)


@dataclass(frozen=True)
class _Line:
    """Points (step, value) of one line; `name` goes into the legend, and `dots` marks every point."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: tuple[int, int, int]
    dots: bool = False


def write_curve(
    path: Path, title: str, losses: Sequence[float], scores: Sequence[tuple[int, float, float]], steps: int
) -> None:
    """Writes the picture as a PNG.

    Args:
        losses: one per step so far, at least one.
        scores: (step, mIoU, pixel accuracy) of each evaluation so far, scores from 0 to 1.
        steps: length of the training.
    """
    picture = Image.new("RGB", (_WIDTH, _TITLE_HEIGHT + 2 * _PANEL_HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_LEFT, 14), title, fill=_INK, font=_font(18))
    raw = list(enumerate(losses, start=1))
    smooth = list(enumerate(moving_average(losses), start=1))
    lines = [_Line("each step", raw, _PALE_BLUE), _Line("moving average", smooth, _BLUE)]
    _draw_panel(draw, _TITLE_HEIGHT, "training loss", lines, steps, 0.0, loss_limit(losses))
    miou = _Line("mIoU", [(step, 100 * value) for step, value, _ in scores], _ORANGE, dots=True)
    accuracy = _Line("pixel accuracy", [(step, 100 * value) for step, _, value in scores], _GREEN, dots=True)
    _draw_panel(draw, _TITLE_HEIGHT + _PANEL_HEIGHT, "validation, %", [miou, accuracy], steps, 0.0, 100.0)
    write_png(path, picture)


def _draw_panel(
    draw: ImageDraw.ImageDraw, top: int, title: str, lines: Sequence[_Line], steps: int, low: float, high: float
) -> None:
    x0, x1 = _LEFT, _WIDTH - _RIGHT
    y0, y1 = top + _TOP, top + _PANEL_HEIGHT - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        step, value = point[0], min(high, point[1])
        return x0 + (x1 - x0) * step / steps, y1 - (y1 - y0) * (value - low) / (high - low)

    for value in ticks(low, high, 6):
        y = place((0, value))[1]
        draw.line([(x0, y), (x1, y)], fill=_GRID)
        draw.text((x0 - 8, y), f"{value:g}", fill=_INK, font=_font(14), anchor="rm")
    for value in ticks(0, steps, 10, whole=True):
        x = place((value, low))[0]
        draw.line([(x, y1), (x, y1 + 5)], fill=_INK)
        draw.text((x, y1 + 8), f"{value:g}", fill=_INK, font=_font(14), anchor="mt")
    for line in lines:
        places = [place(point) for point in line.points]
        draw.line(places, fill=line.colour, width=2, joint="curve")
        for x, y in places if line.dots else ():
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=line.colour)
    draw.line([(x0, y0), (x0, y1), (x1, y1)], fill=_INK)
    draw.text((x0, top + 8), title, fill=_INK, font=_font(15))
    draw.text((x1, y1 + 26), "step", fill=_INK, font=_font(14), anchor="rt")
    _draw_legend(draw, x1, top + 8, lines)


def _draw_legend(draw: ImageDraw.ImageDraw, right: int, top: int, lines: Sequence[_Line]) -> None:
    for line in reversed(lines):
        text = line.name + (f" {line.points[-1][1]:.1f}" if line.dots and line.points else "")
        right -= round(draw.textlength(text, font=_font(14)))
        draw.text((right, top), text, fill=_INK, font=_font(14))
        draw.line([(right - 28, top + 8), (right - 6, top + 8)], fill=line.colour, width=4)
        right -= 48


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
