"""A horizontal bar chart of peak memory, one bar per method, drawn with Pillow."""

from pathlib import Path

from best_method import Best
from in_turn import Outcome
from PIL import Image, ImageDraw, ImageFont
from report import Configuration, gigabytes

# Twice the width at which a README shows it, so that it is sharp on dense screens.
_WIDTH = 1800
_MARGIN = 60
_HEADER = 170
_ROW = 96
_BAR = 56
_FOOTER = 76
_LABEL_GAP = 28
#: Room right of the longest bar for "12.34 GB  12.34 s per step,  x 1.00": the ratio to the fastest other method.
_VALUE_WIDTH = 560

_BACKGROUND = "#ffffff"
_TEXT = "#1f2328"
_QUIET_TEXT = "#59636e"
_AXIS = "#d1d9e0"
_OURS = "#1a7f5a"
_OTHERS = "#9fb3c8"
_FAILURE = "#b3261e"


def draw(outcomes: list[Outcome], setting: Configuration, path: Path) -> None:
    """Writes the chart to `path`, in the format that its suffix names."""
    height = _HEADER + _ROW * len(outcomes) + _FOOTER
    image = Image.new("RGB", (_WIDTH, height), _BACKGROUND)
    canvas = ImageDraw.Draw(image)
    canvas.text((_MARGIN, 44), "Peak memory of one training step", fill=_TEXT, font=_font(48))
    canvas.text((_MARGIN, 108), setting.step, fill=_QUIET_TEXT, font=_font(32))
    canvas.text((_MARGIN, height - 56), setting.machine, fill=_QUIET_TEXT, font=_font(26))

    left = _MARGIN + int(max(canvas.textlength(outcome.method, _font(34)) for outcome in outcomes)) + _LABEL_GAP
    largest = max((outcome.peak_bytes or 0 for outcome in outcomes), default=0)
    best = Best.of(outcomes)
    for index, outcome in enumerate(outcomes):
        middle = _HEADER + _ROW * index + _ROW // 2
        canvas.text((left - _LABEL_GAP, middle), outcome.method, fill=_TEXT, font=_font(34), anchor="rm")
        if outcome.failure is not None:
            _draw_failure(canvas, left, middle, outcome.failure)
        else:
            length = (_WIDTH - _MARGIN - _VALUE_WIDTH - left) * outcome.peak_bytes // largest
            _draw_bar(canvas, left, middle, length, outcome, best)
    canvas.line((left, _HEADER, left, height - _FOOTER), fill=_AXIS, width=3)
    image.save(path)


def _draw_bar(
    canvas: ImageDraw.ImageDraw, left: int, middle: int, length: int, outcome: Outcome, best: Best | None
) -> None:
    colour = _OURS if outcome.method == "lean" else _OTHERS
    canvas.rectangle((left, middle - _BAR // 2, left + max(length, 2), middle + _BAR // 2), fill=colour)
    x = left + length + 24
    value = gigabytes(outcome.peak_bytes)
    canvas.text((x, middle), value, fill=_TEXT, font=_font(36), anchor="lm")
    x += canvas.textlength(value, _font(36)) + 28
    note = f"{outcome.seconds:.2f} s per step"
    if best is not None:
        note += f",  x {best.time_ratio(outcome)}"
    canvas.text((x, middle), note, fill=_QUIET_TEXT, font=_font(32), anchor="lm")


def _draw_failure(canvas: ImageDraw.ImageDraw, left: int, middle: int, reason: str) -> None:
    text = f"failed: {reason}"
    room = _WIDTH - _MARGIN - left - 24
    while canvas.textlength(text, _font(30)) > room:
        text = text.removesuffix("...")[:-1] + "..."
    canvas.text((left + 24, middle), text, fill=_FAILURE, font=_font(30), anchor="lm")


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)
