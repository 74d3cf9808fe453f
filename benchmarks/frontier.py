"""Memory against time: training steps planned into several budgets, and the methods of speed.py beside them.

Every step runs in fresh processes of its own, all in turn; results are checked against the first method's. Prints a
table in Markdown; with --plot it also draws it. Peak memory is that of model, images, labels and step together, as
budgets are.
"""

import argparse
import json
import sys
from pathlib import Path

from arguments import DTYPES, parsed_step, step_options
from in_turn import Measurements, Outcome, Variant, measure_in_turn
from PIL import Image, ImageDraw, ImageFont
from report import configuration, gigabytes, markdown_row
from speed import TRAINING_METHODS, add_options, variants

from ladderseg_fast import memory

BUDGETS = "0.9GiB,1.2GiB,1.6GiB,2.2GiB,3GiB,6GiB"


def main() -> int:
    options = parse_arguments()
    planner = memory.planner_for(
        options.model, (options.batch, 3, *options.size), DTYPES[options.dtype], options.device, optimizer="none"
    )
    estimates = {budget: planner.plan(memory.parse_bytes(budget)).estimate for budget in options.budgets}
    others = variants("train_step.py", TRAINING_METHODS, options)
    plans = [
        Variant(
            f"planned into {budget}",
            "train_step.py",
            ("--method", "lean", "--plan", json.dumps(estimate.plan.as_dict()), *step_options(options)),
        )
        for budget, estimate in estimates.items()
    ]
    measured = measure_in_turn([*others, *plans], options.repeats)
    setting = configuration(options, measured.any_run())
    print(f"One training step of {setting.step}\non {setting.machine}\n")
    predicted = {variant.name: estimate for variant, estimate in zip(plans, estimates.values())}
    fixed = sum(planner.fastest.parts[name] for name in ("parameters and buffers", "images and labels"))
    print(table(measured, predicted, fixed))
    print(f"\n{setting.procedure}. Time predicted by a cost model: {planner.step.rates.source}.")
    if options.plot:
        points = [point(measured.outcome(name), fixed) for name in measured.runs if name not in measured.failures]
        ours = [each for each in points if each[0] in predicted]
        draw(ours, [each for each in points if each not in ours], options.plot, f"One training step of {setting.step}")
    for method, reason in measured.failures.items():
        print(f"{method} failed: {reason}", file=sys.stderr)
    return 1 if measured.failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--budgets", type=lambda text: text.split(","), default=BUDGETS, help="default: %(default)s")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw it there")
    # torch.compile takes longer to compile this step than all others take.
    methods = [name for name in TRAINING_METHODS if name != "compile"]
    parser.set_defaults(methods=methods, size=(1024, 2048), warmup=1, repeats=2)
    return parsed_step(parser)


def point(outcome: Outcome, fixed: int) -> tuple[str, int, float]:
    """Name, bytes of all and seconds; `fixed` bytes exist before the step."""
    return outcome.method, outcome.peak_bytes + fixed, outcome.seconds


def table(measured: Measurements, predicted: dict[str, memory.Estimate], fixed: int) -> str:
    """Table in Markdown."""
    rows = [["method", "peak memory", "predicted", "time", "predicted"]]
    for name in measured.runs:
        outcome = measured.outcome(name)
        if outcome.failure is not None:
            rows.append([name, "failed", "", "", ""])
            continue
        estimate = predicted.get(name)
        expected = ("", "") if estimate is None else (gigabytes(estimate.peak), f"{estimate.seconds:.2f} s")
        rows.append([name, gigabytes(outcome.peak_bytes + fixed), expected[0], f"{outcome.seconds:.2f} s", expected[1]])
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    return "\n".join([markdown_row(rows[0], widths), rule, *(markdown_row(row, widths) for row in rows[1:])])


def draw(ours: list[tuple[str, int, float]], others: list[tuple[str, int, float]], path: Path, heading: str) -> None:
    """Draws the plans as a line and the other methods as points; both axes start at zero."""
    width, height, margin = 1800, 1000, 150
    image = Image.new("RGB", (width, height), "#ffffff")
    canvas = ImageDraw.Draw(image)
    most_bytes = 1.05 * max(size for _, size, _ in [*ours, *others])
    most_seconds = 1.15 * max(seconds for _, _, seconds in [*ours, *others])

    def place(size: float, seconds: float) -> tuple[float, float]:
        x = margin + (width - 2 * margin) * size / most_bytes
        return x, height - margin - (height - 2 * margin) * seconds / most_seconds

    canvas.text((margin, 40), heading, fill="#1f2328", font=_font(40))
    canvas.line((*place(0, most_seconds), *place(0, 0), *place(most_bytes, 0)), fill="#59636e", width=3)
    for size in range(2, int(most_bytes / 1e9) + 1, 2):
        canvas.text(place(size * 1e9, 0), f"\n{size} GB", fill="#59636e", font=_font(26), anchor="ma")
    step = 10 if most_seconds > 25 else 5
    for seconds in range(step, int(most_seconds) + 1, step):
        x, y = place(0, seconds)
        canvas.text((x - 12, y), f"{seconds} s", fill="#59636e", font=_font(26), anchor="rm")
    canvas.text((width - margin, height - 60), "peak memory", fill="#59636e", font=_font(30), anchor="ra")
    canvas.text((margin, 100), "seconds a step", fill="#59636e", font=_font(30))
    for _, size, seconds in others:
        x, y = place(size, seconds)
        canvas.ellipse((x - 11, y - 11, x + 11, y + 11), fill="#9fb3c8")
    taken: list[tuple[float, ...]] = []
    for name, size, seconds in others:
        x, y = place(size, seconds)
        for at, anchor in (
            ((x + 20, y - 12), "lm"),
            ((x - 20, y - 12), "rm"),
            ((x, y - 20), "md"),
            ((x, y + 20), "ma"),
        ):
            box = canvas.textbbox(at, name, font=_font(26), anchor=anchor)
            if box[2] < width and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        canvas.text(at, name, fill="#59636e", font=_font(26), anchor=anchor)
    canvas.line([place(size, seconds) for _, size, seconds in ours], fill="#1a7f5a", width=6, joint="curve")
    for _, size, seconds in ours:
        x, y = place(size, seconds)
        canvas.ellipse((x - 9, y - 9, x + 9, y + 9), fill="#1a7f5a")
    x, y = place(*ours[-1][1:])
    canvas.text((x + 20, y + 26), "planned, by budget", fill="#1a7f5a", font=_font(30), anchor="lm")
    image.save(path)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Overlap of two rectangles (left, top, right, bottom)."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


if __name__ == "__main__":
    sys.exit(main())
