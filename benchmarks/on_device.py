"""Everything worth knowing about a device, by one command and within a given time.

It checks first (the tests marked `cuda`, in parallel if pytest-xdist is installed), then measures in the order of
worth: steps by method and type with their memory, kernels, predictions, predicted against measured memory, the largest
batch in 8 GB, and more (on_device_tasks.py has the list). It builds nothing but kernels that are not in the cache.

Every measurement runs in a fresh process and has a limit. One that fails is recorded with its error, and the next one
follows. After each, the results are written to results/DEVICE_DATE.json (results/README.md), so that nothing is lost
whenever this ends. The exit status is 1 if a test or a measurement failed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from arguments import image_size, model_name, positive, size_text
from on_device_tasks import Task, tasks
from results_file import FOLDER, Measurement, Results, file_name, own_revision, today
from subprocess_step import StepFailed, run_step

#: Runs a task within so many seconds and returns its result; raises StepFailed.
Runner = Callable[[Task, float], dict]


def main() -> int:
    options = parse_arguments()
    deadline = time.monotonic() + 60.0 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:

        def run(task: Task, seconds: float) -> dict:
            arguments = [task.kind, json.dumps(task.options), "--scratch", scratch, "--seconds", str(seconds)]
            return run_step("on_device_step.py", arguments, environment=task.environment, timeout=seconds)

        facts = run(Task("device", "device", {"device": options.device}), 120.0)
        results = Results(facts["device"], {"revision": options.revision} | facts["software"], today())
        path = free_path(options.out, results)
        todo = tasks(options.model, size_text(options.size), options.batch, options.device, 60.0 * options.minutes)
        measure_all(todo, results, path, run, deadline)
    print(path)
    return 1 if any(map(failed, results.measurements)) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0, help="time for everything (default: %(default)s)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try this command")
    parser.add_argument("--model", type=model_name, default="ladder_densenet121", metavar="NAME")
    parser.add_argument("--size", type=image_size, default=(1024, 2048), metavar="HxW", help="default: 1024x2048")
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="images per step (default: 2)")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--revision", default=own_revision(), help="of this repository (default: git's)")
    return parser.parse_args()


def measure_all(
    todo: Iterable[Task],
    results: Results,
    path: Path,
    run: Runner,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Runs the tasks in turn until the `deadline` of `clock`, in seconds, and writes `results` after each."""
    for task in todo:
        measurement = Measurement(task.name, task.kind, task.options)
        started = clock()
        left = deadline - started
        if left < task.least_s:
            measurement.error = f"{LEFT_OUT}: {max(0.0, left):.0f} s were left of the {task.least_s:.0f} that it needs"
        else:
            try:
                measurement.result = run(task, min(left, task.most_s))
            except StepFailed as error:
                measurement.error = str(error)
            measurement.wall_s = round(clock() - started, 1)
        results.measurements.append(measurement)
        results.save(path)
        print(f"{task.name}: {summary(measurement)}", file=sys.stderr, flush=True)


#: How the error of a measurement begins for which there was no time.
LEFT_OUT = "left out"


def failed(measurement: Measurement) -> bool:
    """Whether it was tried and failed, or tests did."""
    if measurement.result is None:
        return not (measurement.error or "").startswith(LEFT_OUT)
    return bool(measurement.result.get("failed"))


def summary(measurement: Measurement) -> str:
    """The measurement in a few words."""
    result = measurement.result
    if result is None:
        return measurement.error or ""
    shown = {key: value for key, value in result.items() if isinstance(value, int | float) and key in _SHOWN}
    return ", ".join(
        f"{key} {value / 1e9:.3f} GB" if "bytes" in key else f"{key} {value}" for key, value in shown.items()
    )


_SHOWN = (
    *("passed", "failed", "median_ms", "enqueue_ms", "total_ms", "launches", "peak_allocated_bytes"),
    *("peak_reserved_bytes", "predicted_bytes", "measured_bytes", "predicted_batch", "measured_batch"),
)


def free_path(folder: Path, results: Results) -> Path:
    """Path for the results: of the device and the date, numbered if there are such results already."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        suffix = f"{results.date}" + (f"_{number}" if number > 1 else "")
        path = folder / file_name(results.device["name"], suffix)
        if not path.exists():
            return path
        number += 1


if __name__ == "__main__":
    sys.exit(main())
