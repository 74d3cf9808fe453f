"""Time of a training step and of a prediction: plain PyTorch, torch.compile, checkpointing, and lean.

All but lean train with PyTorch's own loss and with this package's. All but lean and torch.compile also run with
tcmalloc preloaded, if it is found. An informed user does this, because the default allocator returns large buffers to
the system and takes fresh pages for the next ones. Lean runs with the default allocator. Ratios are to the best of the
other methods. Every method runs in fresh processes of its own, in turn with the others; a method whose results are
wrong is reported as failed and not timed.
"""

import argparse
import ctypes.util
import sys

from alternatives import LOSSES
from arguments import add_step_options, parsed_step, positive, size_text, step_options
from best_method import Best
from in_turn import Measurements, Outcome, Variant, measure_in_turn
from report import LEAN_LOSS_NOTE, configuration, gigabytes, markdown_table
from results_file import Measurement, todays_results

TRAINING_METHODS = (
    *(name + loss for name in ("plain", "compile", "checkpoint-bottleneck", "checkpoint-layer") for loss in LOSSES),
    "lean",
)
PREDICTION_METHODS = ("plain", "compile", "lean")
WITHOUT_TCMALLOC = ("compile", "lean")

TASKS = {
    "training": ("train_step.py", TRAINING_METHODS, "One training step (forward, loss and backward)"),
    "prediction": ("predict_step.py", PREDICTION_METHODS, "One prediction (images to labels)"),
}

_WITH = " + "
TCMALLOC = f"{_WITH}tcmalloc"


def main() -> int:
    options = parse_arguments()
    failed = False
    for task in options.tasks:
        script, methods, title = TASKS[task]
        measured = measure_in_turn(variants(script, methods, options), options.repeats)
        setting = configuration(options, measured.any_run())
        print(f"{title} of {setting.step}\non {setting.machine}\n")
        print(table([measured.outcome(name) for name in measured.runs]))
        if task == "training":
            print(LEAN_LOSS_NOTE)
        print(f"{setting.procedure}. Peak memory: {setting.memory}.")
        print(f"Memory layout of all methods but lean: {setting.layout}.")
        if not options.tcmalloc:
            print("tcmalloc was not found: install it, or name it with --tcmalloc, to see the others with it.")
        print(flush=True)
        if options.record:
            record(task, options, measured)
        for method, reason in measured.failures.items():
            print(f"{method} failed: {reason}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=choice_list(TASKS), default=list(TASKS), metavar="A,B", help="default: both")
    parser.add_argument(
        "--record", action="store_true", help="also add the numbers to this machine's file of the day in results/"
    )
    add_options(parser)
    options = parsed_step(parser)
    if options.record and options.device != "cpu":
        parser.error("--record is for the CPU; on_device.py measures GPUs")
    return options


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
    add_turn_options(parser)


def add_turn_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of repeats and allocator."""
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
        if options.tcmalloc and not method.startswith(WITHOUT_TCMALLOC):
            chosen.append(Variant(method + TCMALLOC, script, arguments, preload=options.tcmalloc))
    return chosen


def record(task: str, options: argparse.Namespace, measured: Measurements) -> None:
    """Adds the measurements of a task to the results of this machine and day, which tables.py reads."""
    kind = "step" if task == "training" else "prediction"
    add_measurements(task, kind, {"model": options.model}, options, measured)


def add_measurements(
    what: str, kind: str, model: dict[str, str], options: argparse.Namespace, measured: Measurements
) -> None:
    """Adds a measurement of this kind for each variant.

    what: begins the measurements' names.
    model: options that say which network it is.
    """
    run = measured.any_run()
    assert run is not None
    results, path = todays_results(run["machine"])
    for name in measured.runs:
        outcome = measured.outcome(name)
        method, _, allocator = name.partition(_WITH)
        step = {"method": method, "dtype": options.dtype, **model, "batch": options.batch}
        step |= {"size": size_text(options.size), "device": options.device}
        step |= {"allocator": allocator} if allocator else {}
        measurement = Measurement(f"{what} {name} {step['batch']} x {step['size']}", kind, step, error=outcome.failure)
        if outcome.failure is None:
            times = {"median_ms": round(1e3 * outcome.seconds, 1), "steps": options.steps, "warmup": options.warmup}
            measurement.result = times | {"peak_resident_bytes": outcome.peak_bytes, "processes": options.repeats}
        results.measurements.append(measurement)
    results.save(path)


def table(outcomes: list[Outcome]) -> str:
    """Times and memory in Markdown, and which methods they are compared with."""
    best = Best.of(outcomes)
    rows = [["method", "time", "of the fastest", "peak memory", "of the least"]]
    for outcome in outcomes:
        if outcome.failure is not None:
            rows.append([outcome.method, f"failed: {outcome.failure}"])
            continue
        ratios = ("-", "-") if best is None else (best.time_ratio(outcome), best.memory_ratio(outcome))
        rows.append([outcome.method, f"{outcome.seconds:.2f} s", ratios[0], gigabytes(outcome.peak_bytes), ratios[1]])
    return "\n".join([markdown_table(rows), *([] if best is None else ["", best.sentence])])


if __name__ == "__main__":
    sys.exit(main())
