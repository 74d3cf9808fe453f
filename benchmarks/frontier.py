"""Memory against time: training steps planned into several budgets, each in a fresh process, all in turn.

Prints a table in Markdown. With --plot also draws the frontier, with other ways of doing the step as points.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from arguments import image_size, model_name, positive, size_text
from PIL import Image, ImageDraw, ImageFont
from planned_step import plan_to_json
from subprocess_step import run_step

from ladderseg_fast import memory


@dataclass
class Point:
    """One way of doing the step: predicted and measured bytes and seconds."""

    name: str
    predicted_bytes: int
    predicted_seconds: float
    plan: str
    bytes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main() -> int:
    options = parse_arguments()
    planner = memory.planner_for(options.model, (options.batch, 3, *options.size), optimizer="none")
    points = []
    for budget in options.budgets:
        estimate = planner.plan(memory.parse_bytes(budget)).estimate
        points.append(Point(budget, estimate.peak, estimate.seconds, plan_to_json(estimate.plan)))
    for _ in range(options.repeats):
        for point in points:
            measure(point, options)
    print("| budget | predicted | measured | predicted time | measured time |")
    print("|---:|---:|---:|---:|---:|")
    for point in points:
        peak, seconds = max(point.bytes), min(point.seconds)
        predicted = f"{memory.format_bytes(point.predicted_bytes)} | {memory.format_bytes(peak)}"
        print(f"| {point.name} | {predicted} | {point.predicted_seconds:.2f} s | {seconds:.2f} s |")
    if options.plot:
        draw([(max(p.bytes), min(p.seconds)) for p in points], options.others, options.plot, title(options))
    return 0


def measure(point: Point, options: argparse.Namespace) -> None:
    line = ["--model", options.model, "--size", size_text(options.size), "--batch", str(options.batch)]
    result = run_step("planned_step.py", [*line, "--steps", str(options.steps), "--plan", point.plan])
    point.bytes.append(result["peak_bytes"])
    point.seconds.append(result["seconds"])
    print(f"{point.name}: {memory.format_bytes(point.bytes[-1])}, {point.seconds[-1]:.2f} s", file=sys.stderr, flush=True)


def title(options: argparse.Namespace) -> str:
    return f"One training step of {options.model}, {options.batch} x {size_text(options.size)}, float32"


def draw(frontier: list[tuple[int, float]], others: list[tuple[str, int, float]], path: Path, heading: str) -> None:
    """The budgets as a line, the other ways (name, bytes, seconds) as points; from zero on both axes."""
    width, height, margin = 1800, 1000, 150
    image = Image.new("RGB", (width, height), "#ffffff")
    canvas = ImageDraw.Draw(image)
    most_bytes = 1.15 * max(size for size, _ in [*frontier, *((size, seconds) for _, size, seconds in others)])
    most_seconds = 1.15 * max(seconds for _, seconds in [*frontier, *((size, seconds) for _, size, seconds in others)])

    def place(size: float, seconds: float) -> tuple[float, float]:
        x = margin + (width - 2 * margin) * size / most_bytes
        return x, height - margin - (height - 2 * margin) * seconds / most_seconds

    canvas.text((margin, 40), heading, fill="#1f2328", font=_font(40))
    canvas.line((*place(0, most_seconds), *place(0, 0), *place(most_bytes, 0)), fill="#59636e", width=3)
    canvas.text((width - margin, height - 90), "peak memory", fill="#59636e", font=_font(30), anchor="ra")
    canvas.text((margin, 100), "seconds a step", fill="#59636e", font=_font(30))
    canvas.line([place(*point) for point in frontier], fill="#1a7f5a", width=6, joint="curve")
    for size, seconds in frontier:
        x, y = place(size, seconds)
        canvas.ellipse((x - 11, y - 11, x + 11, y + 11), fill="#1a7f5a")
    ends = [frontier[0], frontier[-1]]
    for name, size, seconds in [*(("planned", *end) for end in ends), *others]:
        x, y = place(size, seconds)
        if name != "planned":
            canvas.ellipse((x - 13, y - 13, x + 13, y + 13), fill="#9fb3c8")
        text = f"{name}: {memory.format_bytes(size)}, {seconds:.1f} s"
        anchor = "rm" if x > width / 2 else "lm"
        canvas.text((x - 24 if anchor == "rm" else x + 24, y - 30), text, fill="#1f2328", font=_font(30), anchor=anchor)
    image.save(path)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def other_way(text: str) -> tuple[str, int, float]:
    """("plain", bytes, seconds) from "plain=14.4GB,38.9"."""
    name, _, numbers = text.partition("=")
    size, _, seconds = numbers.partition(",")
    try:
        return name, memory.parse_bytes(size), float(seconds)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected NAME=SIZE,SECONDS, got {text!r}") from error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=model_name, default="ladder_densenet121", metavar="NAME")
    parser.add_argument("--size", type=image_size, default=(1024, 2048), metavar="HxW", help="default: 1024x2048")
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="default: 2")
    parser.add_argument(
        "--budgets", type=lambda text: text.split(","), default=["0.9GB", "1.2GB", "1.6GB", "2.2GB", "3GB", "6GB"]
    )
    parser.add_argument("--steps", type=positive, default=3, help="in each process; the first is not timed (default: 3)")
    parser.add_argument("--repeats", type=positive, default=2, metavar="N", help="processes per budget (default: 2)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the frontier there")
    parser.add_argument(
        "--others", type=other_way, nargs="*", default=[], metavar="NAME=SIZE,SECONDS", help="points in the drawing"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
