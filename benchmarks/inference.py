"""Latency, images per second and peak memory of predictions: plain PyTorch, torch.compile, onnxruntime, and lean.

Every method runs in fresh processes of its own, in turn with the others, and its labels are checked against those of
plain PyTorch before its numbers are quoted. Plain PyTorch and onnxruntime also run with tcmalloc preloaded, if it is
found; ratios are to the best of the methods that are not this package's. A method that this machine does not have is
reported as not available, with the reason.

    python benchmarks/inference.py --record
    python benchmarks/inference.py --steps-of 1x448x1024 --methods plain,lean
    python benchmarks/inference.py --steps-of none --tiled 20000x20000 --rows 2
"""

import argparse
import copy
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from arguments import add_step_options, image_size, parsed_step, positive, size_text
from best_method import Best
from in_turn import Measurements, Outcome, Variant, measure_in_turn
from prediction_methods import LEAN_BFLOAT16, NOT_AVAILABLE, ONNXRUNTIME, seeded_model
from report import configuration, gigabytes, markdown_table
from results_file import Measurement, todays_results
from speed import add_measurements, add_turn_options, choice_list, variants
from subprocess_step import StepFailed, run_step

METHODS = ("plain", "compile", ONNXRUNTIME, "lean", LEAN_BFLOAT16)

#: Batches that are measured unless others are asked for: (images, (height, width)).
STEPS = ((1, (448, 1024)), (1, (1024, 2048)), (8, (256, 512)))


def main() -> int:
    options = parse_arguments()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        if options.steps_of and ONNXRUNTIME in options.methods:
            export(file, options)
        for batch, size in options.steps_of:
            step = copy.copy(options)
            step.batch, step.size = batch, size
            measured = measure_in_turn(with_file(variants("predict_step.py", METHODS, step), file), options.repeats)
            show(step, measured)
            if options.record:
                add_measurements("inference", "inference", {"model": options.model}, step, measured)
            failed |= any(NOT_AVAILABLE not in reason for reason in measured.failures.values())
    if options.tiled is not None:
        failed |= not tiled(options)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", type=choice_list(METHODS), default=list(METHODS), metavar="A,B", help="default: all"
    )
    parser.add_argument(
        "--steps-of",
        type=batches,
        default=STEPS,
        metavar="NxHxW,...",
        help="batches, or none (default: 1x448x1024,1x1024x2048,8x256x512); --batch and --size have no effect",
    )
    parser.add_argument("--tiled", type=image_size, metavar="HxW", help="also label an image of this size in tiles")
    parser.add_argument("--rows", type=positive, metavar="N", help="rows of tiles to label (default: all)")
    parser.add_argument(
        "--record", action="store_true", help="also add the numbers to this machine's file of the day in results/"
    )
    add_step_options(parser)
    add_turn_options(parser)
    options = parsed_step(parser)
    if options.device != "cpu":
        parser.error("this benchmark is for the CPU; on_device.py measures GPUs")
    return options


def batches(text: str) -> list[tuple[int, tuple[int, int]]]:
    """Batches of images from a text: "1x448x1024,8x256x512" gives [(1, (448, 1024)), (8, (256, 512))]."""
    found = []
    for one in [] if text == "none" else text.split(","):
        batch, _, size = one.partition("x")
        found.append((positive(batch), image_size(size)))
    return found


def export(file: Path, options: argparse.Namespace) -> None:
    """Writes the measured network to `file`, unless this installation cannot: then its method says so."""
    try:
        seeded_model("plain", options).export_onnx(file, "labels")
    except ImportError as error:
        print(f"no exported model: {error}", file=sys.stderr)


def with_file(chosen: Sequence[Variant], file: Path) -> list[Variant]:
    """The variants, with the exported model for those that run it."""
    given = ("--onnx", str(file)) if file.exists() else ()
    return [
        dataclasses.replace(each, arguments=each.arguments + given) if each.name.startswith(ONNXRUNTIME) else each
        for each in chosen
    ]


def show(options: argparse.Namespace, measured: Measurements) -> None:
    """Prints the table of one batch, and why methods have no numbers."""
    setting = configuration(options, measured.any_run())
    print(f"One prediction (images to labels) of {setting.step}\non {setting.machine}\n")
    print(table([measured.outcome(name) for name in measured.runs], options.batch))
    print(f"{setting.procedure}. Peak memory: {setting.memory}.\n", flush=True)
    for method, reason in measured.failures.items():
        if NOT_AVAILABLE not in reason:
            print(f"{method} failed: {reason}", file=sys.stderr)


def table(outcomes: list[Outcome], batch: int) -> str:
    """Times, throughput and memory in Markdown, and which methods they are compared with."""
    best = Best.of(outcomes)
    rows = [["method", "latency", "images/s", "of the fastest", "peak memory", "of the least"]]
    for outcome in outcomes:
        if outcome.failure is not None:
            available = NOT_AVAILABLE not in outcome.failure
            rows.append([outcome.method, f"{'failed' if available else 'not available'}: {reason_of(outcome.failure)}"])
            continue
        ratios = ("-", "-") if best is None else (best.time_ratio(outcome), best.memory_ratio(outcome))
        times = f"{1e3 * outcome.seconds:.0f} ms", f"{batch / outcome.seconds:.2f}"
        rows.append([outcome.method, *times, ratios[0], gigabytes(outcome.peak_bytes), ratios[1]])
    return "\n".join([markdown_table(rows), *([] if best is None else ["", best.sentence])])


def reason_of(failure: str) -> str:
    """Reason without the error's name, which may be that of a module's class."""
    return failure.partition(f"{NOT_AVAILABLE}: ")[2] or failure


def tiled(options: argparse.Namespace) -> bool:
    """Labels an image on disk in tiles, and says what it took; returns whether it could."""
    size = size_text(options.tiled)
    arguments = ["--model", options.model, "--size", size]
    for name, value in (("--rows", options.rows), ("--threads", options.threads)):
        arguments += [] if value is None else [name, str(value)]
    try:
        measured = run_step("tiled_step.py", arguments)
    except StepFailed as error:
        print(f"tiled {size} failed: {error}", file=sys.stderr)
        return False
    print(
        f"lean, an image of {size} in tiles ({measured['tiles']} of {measured['all_tiles']}): "
        f"{measured['seconds_per_megapixel']:.2f} s per megapixel, peak {gigabytes(measured['peak'])} above the model, "
        f"{gigabytes(measured['process'])} of the whole process"
    )
    if options.record:
        results, path = todays_results(measured["machine"])
        step = {"method": "lean", "dtype": "float32", "model": options.model, "size": size, "device": options.device}
        result = {name: measured[name] for name in ("tiles", "all_tiles", "seconds_per_megapixel")}
        result |= {"peak_resident_bytes": measured["peak"], "process_bytes": measured["process"]}
        results.measurements.append(Measurement(f"inference lean tiled {size}", "tiled inference", step, result))
        results.save(path)
    return True


if __name__ == "__main__":
    sys.exit(main())
