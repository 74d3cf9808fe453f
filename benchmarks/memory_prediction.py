"""Predicted and measured peak memory of training steps.

Two models, three sizes, batches 1 to 4, four budgets; every case runs in a fresh process of its own. Prints a table in
Markdown; the exit status is 1 if a prediction is off by more than 5 % and 50 MB, or is more than 3 % below what was
measured.
"""

import argparse
import json
import sys
from dataclasses import dataclass

from arguments import DTYPES, check_dtype, image_size, model_name, positive, size_text
from subprocess_step import run_step

from ladderseg_fast import memory

MODELS = ("ladder_densenet121", "ladder_densenet169")
SIZES = ((256, 512), (512, 1024), (768, 1536))
#: Place of a case's budget between the least memory and that of the fastest step, by batch.
SHARES = {1: 1.0, 2: 0.0, 3: 0.3, 4: 0.6}


@dataclass(frozen=True)
class Case:
    model: str
    size: tuple[int, int]
    batch: int
    share: float


def main() -> int:
    options = parse_arguments()
    cases = [Case(m, s, b, SHARES[b]) for m in options.models for s in options.sizes for b in options.batches]
    failed = False
    print("| model | images | optimizer | budget | predicted | measured | error |")
    print("|---|---|---|---:|---:|---:|---:|", flush=True)
    for i, case in enumerate(cases):
        optimizer = ("none", "adam", "sgd")[i % 3]
        budget, predicted, measured = run(case, optimizer, options)
        error = predicted - measured
        bad = abs(error) > max(0.05 * measured, 50e6) or error < -0.03 * measured
        failed = failed or bad
        cells = [case.model, f"{case.batch} x {size_text(case.size)}", optimizer]
        cells += [memory.format_bytes(each) for each in (budget, predicted, measured)]
        cells.append(f"{100 * error / measured:+.1f} %, {error / 1e6:+.0f} MB{' **off**' if bad else ''}")
        print(f"| {' | '.join(cells)} |", flush=True)
    return 1 if failed else 0


def run(case: Case, optimizer: str, options: argparse.Namespace) -> tuple[int, int, int]:
    """Measures a step within a budget; returns predicted and measured peak, in bytes."""
    shape = (case.batch, 3, *case.size)
    planner = memory.planner_for(case.model, shape, DTYPES[options.dtype], options.device, optimizer=optimizer)
    least, most = planner.smallest.peak, planner.fastest.peak
    budget = round(least + case.share * (most - least))
    planned = planner.plan(budget)
    arguments = ["--model", case.model, "--size", size_text(case.size), "--batch", str(case.batch)]
    arguments += ["--device", options.device, "--dtype", options.dtype, "--steps", str(options.steps)]
    arguments += ["--optimizer", optimizer, "--plan", json.dumps(planned.plan.as_dict())]
    result = run_step("planned_step.py", arguments)
    return budget, planned.estimate.peak, result["peak_bytes"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: [model_name(name) for name in text.split(",")], default=MODELS)
    parser.add_argument("--sizes", type=lambda text: [image_size(size) for size in text.split(",")], default=SIZES)
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=list(SHARES))
    parser.add_argument("--steps", type=positive, default=3, help="in each process (default: 3)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="a 16-bit one for CUDA only")
    options = parser.parse_args()
    check_dtype(parser, options)
    return options


if __name__ == "__main__":
    sys.exit(main())
