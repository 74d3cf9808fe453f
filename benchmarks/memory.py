"""Peak memory and time of one training step: plain PyTorch, its checkpointing, and lean.

Every method runs in fresh processes of its own, in turn with the others. A method that fails, or whose loss or
gradients are wrong, is reported as failed, and the exit status is 1.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from alternatives import METHODS
from arguments import add_step_options, positive, size_text, step_options
from bar_chart import draw
from report import Outcome, configuration, sentence, table
from result_check import TOLERANCES, rejection
from subprocess_step import StepFailed, run_step

DEFAULT_METHODS = ("plain", "checkpoint-bottleneck", "checkpoint-layer", "lean")


def main() -> int:
    options = parse_arguments()
    runs, failures, reference = measure_in_turn(options)
    outcomes = [outcome(method, runs[method], failures.get(method)) for method in options.methods]
    setting = configuration(options, next((run for name in options.methods for run in runs[name]), None))
    print(table(outcomes, setting, reference))
    if options.json:
        options.json.write_text(json.dumps(report_data(options, outcomes, runs, reference), indent=2) + "\n")
    if options.plot:
        draw(outcomes, setting, options.plot)
    closing = sentence(outcomes, options)
    if closing:
        print(f"\n{closing}")
    for method, reason in failures.items():
        print(f"{method} failed: {reason}", file=sys.stderr)
    return 1 if failures else 0


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
    return parser.parse_args()


def method_list(text: str) -> list[str]:
    """Methods in the order of METHODS: plain first, since the others are checked against it."""
    names = text.split(",")
    unknown = sorted(set(names) - set(METHODS))
    if unknown:
        raise argparse.ArgumentTypeError(f"expected methods of {', '.join(METHODS)}; got {', '.join(unknown)}")
    return [method for method in METHODS if method in names]


def measure_in_turn(options: argparse.Namespace) -> tuple[dict[str, list[dict]], dict[str, str], str | None]:
    """Round robin over the methods, so that a change in the machine's load meets them all.

    Returns:
        The runs of each method; the reason for each that failed (it gets no more turns); and the first method
        that ran, against whose loss and gradients the others were checked.
    """
    runs: dict[str, list[dict]] = {method: [] for method in options.methods}
    failures: dict[str, str] = {}
    reference: str | None = None
    with tempfile.TemporaryDirectory() as folder:
        reference_file = str(Path(folder) / "reference.pt")
        for repeat in range(options.repeats):
            for method in options.methods:
                if method in failures:
                    continue
                check = ["--save-reference" if reference is None else "--reference", reference_file]
                try:
                    run = run_step(["--method", method, *step_options(options), *check])
                except StepFailed as error:
                    failures[method] = str(error)
                else:
                    reason = rejection(run["errors"]) if "errors" in run else None
                    if reason is not None:
                        failures[method] = reason
                    reference = reference or method
                    runs[method].append(run)
                show_progress(method, repeat, options.repeats, runs[method], failures.get(method))
    return runs, failures, reference


def show_progress(method: str, repeat: int, repeats: int, runs: list[dict], failure: str | None) -> None:
    if failure is None:
        result = f"{runs[-1]['peak_bytes'] / 1e9:.2f} GB, {runs[-1]['seconds']:.2f} s per step"
    else:
        result = failure
    print(f"{repeat + 1}/{repeats}  {method}: {result}", file=sys.stderr, flush=True)


def outcome(method: str, runs: list[dict], failure: str | None) -> Outcome:
    """Medians over the runs; nothing is quoted of a method that failed."""
    if failure is not None:
        return Outcome(method, failure=failure)
    return Outcome(
        method,
        peak_bytes=int(statistics.median(run["peak_bytes"] for run in runs)),
        seconds=statistics.median(run["seconds"] for run in runs),
    )


def report_data(
    options: argparse.Namespace, outcomes: list[Outcome], runs: dict[str, list[dict]], reference: str | None
) -> dict:
    """Everything that was measured, for --json."""
    names = ("model", "batch", "device", "warmup", "steps", "repeats", "channels_last")
    return {
        "configuration": {"size": size_text(options.size)} | {name: getattr(options, name) for name in names},
        "checked_against": reference,
        "tolerances": TOLERANCES,
        "methods": {result.method: asdict(result) | {"runs": runs[result.method]} for result in outcomes},
    }


if __name__ == "__main__":
    sys.exit(main())
