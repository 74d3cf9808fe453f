"""Memory against time: training steps planned into several budgets, and the methods of speed.py beside them.

Ratios are to the best of those methods. Every step runs in fresh processes of its own, all in turn; results are
checked against the first method's. Prints a table in Markdown; with --plot it also draws it. Peak memory is that of
model, images, labels and step together, as budgets are.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from arguments import DTYPES, parsed_step, step_options
from best_method import Best
from in_turn import Outcome, Variant, measure_in_turn
from PIL import Image, ImageDraw, ImageFont
from report import LEAN_LOSS_NOTE, configuration, gigabytes, markdown_table
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
    outcomes = [with_fixed(measured.outcome(name), fixed) for name in measured.runs]
    print(table(outcomes, predicted))
    print(f"{setting.procedure}. Time predicted by a cost model: {planner.step.rates.source}.")
    if options.plot:
        points = [point(each) for each in outcomes if each.failure is None]
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
    methods = [name for name in TRAINING_METHODS if not name.startswith("compile")]
    parser.set_defaults(methods=methods, size=(1024, 2048), warmup=1, repeats=2)
    return parsed_step(parser)


def with_fixed(outcome: Outcome, fixed: int) -> Outcome:
    """The outcome with the bytes that exist before the step."""
    return outcome if outcome.failure is not None else replace(outcome, peak_bytes=outcome.peak_bytes + fixed)


def point(outcome: Outcome) -> tuple[str, int, float]:
    """Name, bytes and seconds."""
    return outcome.method, outcome.peak_bytes, outcome.seconds


def table(outcomes: list[Outcome], predicted: dict[str, memory.Estimate]) -> str:
    """Table in Markdown, and which methods the ratios are to; `predicted` has the plans by name."""
    best = Best.of(outcomes)
    rows = [["method", "peak memory", "predicted", "of the least", "time", "predicted", "of the fastest"]]
    for outcome in outcomes:
        if outcome.failure is not None:
            rows.append([outcome.method, f"failed: {outcome.failure}"])
            continue
        estimate = predicted.get(outcome.method)
        expected = ("", "") if estimate is None else (gigabytes(estimate.peak), f"{estimate.seconds:.2f} s")
        least, fastest = ("-", "-") if best is None else (best.memory_ratio(outcome), best.time_ratio(outcome))
        size, seconds = gigabytes(outcome.peak_bytes), f"{outcome.seconds:.2f} s"
        rows.append([outcome.method, size, expected[0], least, seconds, expected[1], fastest])
    return "\n".join([markdown_table(rows), *([] if best is None else ["", best.sentence, LEAN_LOSS_NOTE])])


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
