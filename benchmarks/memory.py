"""Peak memory and time of one training step: plain PyTorch and its checkpointing, each with either loss, and lean.

Ratios are to the best of the other methods: in memory to the one that takes the least, in time to the fastest.
Every method runs in fresh processes of its own, in turn with the others. A method that fails, or whose loss or
gradients are wrong, is reported as failed, and the exit status is 1.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from alternatives import METHODS
from arguments import add_step_options, parsed_step, positive, size_text, step_options
from bar_chart import draw
from in_turn import Measurements, Outcome, Variant, measure_in_turn
from report import configuration, sentence, table
from result_check import TOLERANCES

DEFAULT_METHODS = ("plain", "plain-lean-loss", "checkpoint-layer", "checkpoint-layer-lean-loss", "lean")


def main() -> int:
    options = parse_arguments()
    variants = [
        Variant(method, "train_step.py", ("--method", method, *step_options(options))) for method in options.methods
    ]
    steps = options.warmup + options.steps
    what = f"{options.repeats} processes of {steps} steps for each of {len(variants)} methods"
    print(what, file=sys.stderr, flush=True)
    measured = measure_in_turn(variants, options.repeats)
    outcomes = [measured.outcome(method) for method in options.methods]
    setting = configuration(options, measured.any_run())
    print(table(outcomes, setting, measured.reference))
    if options.json:
        options.json.write_text(json.dumps(report_data(options, outcomes, measured), indent=2) + "\n")
    if options.plot:
        draw(outcomes, setting, options.plot)
    closing = sentence(outcomes, options)
    if closing:
        print(f"\n{closing}")
    for method, reason in measured.failures.items():
        print(f"{method} failed: {reason}", file=sys.stderr)
    return 1 if measured.failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods",
        type=method_list,
        default=list(DEFAULT_METHODS),
        metavar="A,B,C",
        help=f"of {', '.join(METHODS)} (default: {','.join(DEFAULT_METHODS)})",
    )
    add_step_options(parser)
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="processes per method (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw a bar chart there")
    return parsed_step(parser)


def method_list(text: str) -> list[str]:
    """Methods in the order of METHODS: plain first, since the others are checked against it."""
    names = text.split(",")
    unknown = sorted(set(names) - set(METHODS))
    if unknown:
        raise argparse.ArgumentTypeError(f"expected methods of {', '.join(METHODS)}; got {', '.join(unknown)}")
    return [method for method in METHODS if method in names]


def report_data(options: argparse.Namespace, outcomes: list[Outcome], measured: Measurements) -> dict:
    """Everything that was measured, for --json."""
    names = ("model", "batch", "device", "dtype", "warmup", "steps", "repeats", "channels_last")
    return {
        "configuration": {"size": size_text(options.size)} | {name: getattr(options, name) for name in names},
        "checked_against": measured.reference,
        "tolerances": TOLERANCES,
        "methods": {result.method: asdict(result) | {"runs": measured.runs[result.method]} for result in outcomes},
    }


if __name__ == "__main__":
    sys.exit(main())
