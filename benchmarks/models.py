"""Every registered model: parameters, arithmetic, and the peak memory and time of a training step, plain and lean.

Each method runs in fresh processes of its own, in turn with the other; lean's results are checked against plain's.
Prints a table in Markdown. A model that fails is reported as failed, and the exit status is 1.
"""

import argparse
import sys

import torch
from arguments import add_step_options, model_name, parsed_step, positive, step_options
from in_turn import Measurements, Outcome, Variant, measure_in_turn
from report import configuration, footnotes, gigabytes, markdown_table
from torch.utils.flop_counter import FlopCounterMode

from ladderseg_fast import create_model, list_models
from ladderseg_fast.models.registry import CONFIGURATIONS

NUM_CLASSES = 19

HEADINGS = ["model", "in the paper", "parameters", "arithmetic", "plain", "", "lean", ""]


def main() -> int:
    options = parse_arguments()
    rows, failed, last = [], False, None
    for name in options.models:
        print(name, file=sys.stderr, flush=True)
        last = measure(name, options)
        failed = failed or bool(last.failures)
        rows.append(row(name, options, [last.outcome(way) for way in options.ways]))
        for way, reason in last.failures.items():
            print(f"{name}, {way} failed: {reason}", file=sys.stderr)
    options.model = options.models[0]
    setting = configuration(options, last.any_run())
    print(f"Training steps of {options.batch} x {options.size[0]}x{options.size[1]} in {options.dtype}")
    print(f"on {setting.machine}\n")
    print(markdown_table([HEADINGS, *rows]))
    print("\n" + "\n".join(footnotes(setting, last.reference)))
    print("Arithmetic: multiplications and additions of one forward pass of one such image.")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=model_list, default=list_models(), metavar="A,B,C", help="default: all")
    add_step_options(parser)
    parser.add_argument("--repeats", type=positive, default=1, metavar="N", help="processes per way (default: 1)")
    options = parsed_step(parser)
    options.ways = ("plain", "lean")
    return options


def model_list(text: str) -> list[str]:
    return [model_name(name) for name in text.split(",")]


def measure(name: str, options: argparse.Namespace) -> Measurements:
    options.model = name
    arguments = step_options(options)
    variants = [Variant(way, "train_step.py", ("--method", way, *arguments)) for way in options.ways]
    return measure_in_turn(variants, options.repeats)


def row(name: str, options: argparse.Namespace, outcomes: list[Outcome]) -> list[str]:
    with torch.device("meta"):
        model = create_model(name, NUM_CLASSES, memory="plain").eval()
        images = torch.empty(1, 3, *options.size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    cells = [name, CONFIGURATIONS[name].title, f"{millions:.2f} M", f"{counter.get_total_flops() / 1e9:.0f} GFLOP"]
    for outcome in outcomes:
        failed = outcome.failure is not None
        cells += ["failed", "-"] if failed else [gigabytes(outcome.peak_bytes), f"{outcome.seconds:.2f} s"]
    return cells


if __name__ == "__main__":
    sys.exit(main())
