"""Time of a training step and of a prediction: plain PyTorch, torch.compile, checkpointing, and lean.

Plain PyTorch and checkpointing also run with tcmalloc preloaded, if it is found. An informed user does this, because
the default allocator returns large buffers to the system and takes fresh pages for the next ones. Lean runs with the
default allocator. Every method runs in fresh processes of its own, in turn with the others; a method whose results are
wrong is reported as failed and not timed.
"""

import argparse
import ctypes.util
import sys

from arguments import add_step_options, parsed_step, positive, step_options
from in_turn import Measurements, Variant, measure_in_turn
from report import configuration, gigabytes, markdown_row

TRAINING_METHODS = ("plain", "compile", "checkpoint-bottleneck", "checkpoint-layer", "lean")
PREDICTION_METHODS = ("plain", "compile", "lean")
WITH_TCMALLOC = ("plain", "checkpoint-bottleneck", "checkpoint-layer")

TASKS = {
    "training": ("train_step.py", TRAINING_METHODS, "One training step (forward, loss and backward)"),
    "prediction": ("predict_step.py", PREDICTION_METHODS, "One prediction (images to labels)"),
}

_TCMALLOC = " + tcmalloc"


def main() -> int:
    options = parse_arguments()
    failed = False
    for task in options.tasks:
        script, methods, title = TASKS[task]
        measured = measure_in_turn(variants(script, methods, options), options.repeats)
        setting = configuration(options, measured.any_run())
        print(f"{title} of {setting.step}\non {setting.machine}\n")
        print(table(measured))
        print(f"\n{setting.procedure}. Peak memory: {setting.memory}.")
        print(f"Memory layout of all methods but lean: {setting.layout}.")
        if not options.tcmalloc:
            print("tcmalloc was not found: install it, or name it with --tcmalloc, to see the others with it.")
        print(flush=True)
        for method, reason in measured.failures.items():
            print(f"{method} failed: {reason}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=choice_list(TASKS), default=list(TASKS), metavar="A,B", help="default: both")
    add_options(parser)
    return parsed_step(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of methods, step, repeats and allocator."""
    parser.add_argument(
        "--methods",
        type=choice_list(TRAINING_METHODS),
        default=list(TRAINING_METHODS),
        metavar="A,B,C",
        help=f"of {', '.join(TRAINING_METHODS)} (default: all); prediction has no checkpointing",
    )
    add_step_options(parser)
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="processes per method (default: 3)")
    parser.add_argument(
        "--tcmalloc",
        default=ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc"),
        metavar="LIBRARY",
        help="path or name of libtcmalloc (default: the system's, if it has one)",
    )


def choice_list(choices):
    """Argument type: some of `choices`, separated by commas, in their order."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - set(choices))
        if unknown:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(choices)}; got {', '.join(unknown)}")
        return [name for name in choices if name in names]

    return parse


def variants(script: str, methods: tuple[str, ...], options: argparse.Namespace) -> list[Variant]:
    """Variants with plain first, because the others are checked against it."""
    chosen = []
    for method in (name for name in methods if name in options.methods):
        arguments = ("--method", method, *step_options(options))
        chosen.append(Variant(method, script, arguments))
        if method in WITH_TCMALLOC and options.tcmalloc:
            chosen.append(Variant(method + _TCMALLOC, script, arguments, preload=options.tcmalloc))
    return chosen


def table(measured: Measurements) -> str:
    """Times in Markdown, as ratios to plain's with either allocator."""
    outcomes = [measured.outcome(name) for name in measured.runs]
    times = {outcome.method: outcome.seconds for outcome in outcomes if outcome.failure is None}
    plain, tuned = times.get("plain"), times.get("plain" + _TCMALLOC)
    rows = [["method", "time", "of plain", "of plain + tcmalloc", "peak memory"]]
    for outcome in outcomes:
        if outcome.failure is not None:
            rows.append([outcome.method, "failed", outcome.failure, "", ""])
            continue
        ratios = [f"{outcome.seconds / base:.2f}" if base else "-" for base in (plain, tuned)]
        rows.append([outcome.method, f"{outcome.seconds:.2f} s", *ratios, gigabytes(outcome.peak_bytes)])
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    return "\n".join([markdown_row(rows[0], widths), rule, *(markdown_row(row, widths) for row in rows[1:])])


if __name__ == "__main__":
    sys.exit(main())
