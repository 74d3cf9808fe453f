"""Makes one measurement of benchmarks/on_device.py in this process; prints its result as one line of JSON.

The kind names a function below; it gets the options, and returns the result that results/README.md describes.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # as in train_step.py: nobody's time
from alternatives import build
from arguments import image_size
from kernel_names import aggregated
from planned_step import make_optimizer
from result_check import rejection, relative_errors, step_result
from sanitized_calls import DONE as SANITIZED_CALLS_DONE
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from train_step import LOSS_SCALES, NUM_CLASSES, SEED, cpu_name, now, random_batch

from ladderseg_fast import LadderLoss, create_model, memory
from ladderseg_fast.memory.rates import measure_rates

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "cuda"

Options = dict[str, Any]
Result = dict[str, Any]

#: Steps, and predictions, before and while they are timed. In the first ones some caches fill.
COUNTS = {"cuda": (4, 10), "cpu": (1, 3)}
PROFILED_STEPS = 3

#: Batches beside the predicted one that are tried.
_MOST_TRIALS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("options", type=json.loads)
    parser.add_argument("--scratch", type=Path, required=True, help="folder that all measurements share")
    parser.add_argument("--seconds", type=float, required=True, help="after which this process is killed")
    arguments = parser.parse_args()
    options = arguments.options | {"scratch": arguments.scratch, "deadline": time.monotonic() + arguments.seconds}
    torch.manual_seed(SEED)
    torch.backends.cudnn.benchmark = options.get("cudnn_benchmark", False)
    tf32 = options.get("dtype") == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    print(json.dumps(KINDS[arguments.kind](options)))


def device(options: Options) -> Result:
    """Facts about the device and the software."""
    software = {"torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version.split()[0]}
    if options["device"] == "cpu":
        return {"device": {"name": cpu_name(), "threads": torch.get_num_threads()}, "software": software}
    facts = torch.cuda.get_device_properties(0)
    device = {"name": facts.name, "capability": f"{facts.major}.{facts.minor}"}
    device |= {"multiprocessors": facts.multi_processor_count, "memory_bytes": facts.total_memory}
    software |= {"driver": _driver(), "cudnn": torch.backends.cudnn.version()}
    return {"device": device, "software": software}


def tests(options: Options) -> Result:
    """The tests marked cuda, side by side if pytest-xdist is there."""
    side_by_side = ["-n", str(min(8, os.cpu_count() or 1))] if find_spec("xdist") else []
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", str(TESTS), *side_by_side]
    return _test_counts(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False))


def step(options: Options) -> Result:
    """Forward, loss and backward. Loss and gradients are checked against the first method's of this type."""
    one_step, place, result = _step(options)
    meter = Peaks(place)
    times = _timed(one_step, place)
    checked = _checked(result, f"{options['dtype']} {options['batch']} x {options['size']}", options)
    return times | meter.read() | checked


def kernels(options: Options) -> Result:
    """Time of every kernel of a step."""
    one_step, place, _ = _step(options)
    for _ in range(COUNTS["cuda"][0]):
        one_step()
    now(place)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(PROFILED_STEPS):
            one_step()
        now(place)
    on_gpu = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    if not on_gpu:
        raise RuntimeError("the profiler saw no kernel")
    times = [(each.name, 1 / PROFILED_STEPS, each.time_range.elapsed_us() / 1e3 / PROFILED_STEPS) for each in on_gpu]
    total = sum(milliseconds for _, _, milliseconds in times)
    launches = [[name, round(count, 1), milliseconds] for name, count, milliseconds in aggregated(times)]
    return {"total_ms": round(total, 3), "launches": round(len(times) / PROFILED_STEPS, 1), "kernels": launches}


def prediction(options: Options) -> Result:
    """Images to labels."""
    place = torch.device(options["device"])
    model, _ = build(options["method"], options["model"], NUM_CLASSES, channels_last=True)
    model.to(place).eval()
    images, _ = _batch(options, place)
    labels: list[Tensor] = []

    def predict() -> None:
        with _autocast(options):
            labels[:] = [model.predict(images)]

    meter = Peaks(place)
    times = _timed(predict, place)
    peaks = meter.read()
    kind = "16-bit prediction" if options["dtype"] == "float16" else "prediction"

    def compare(reference: Tensor) -> dict[str, dict[str, float]]:
        return {kind: {"labels": (labels[0].cpu() != reference).double().mean().item()}}

    checked = _against(f"prediction {options['dtype']} {options['size']}", labels[0].cpu(), compare, options)
    return times | peaks | checked


def memory_of_a_step(options: Options) -> Result:
    """Predicted and measured: from the second step on, and in the first, before which nothing is known."""
    place = torch.device(options["device"])
    planner = _planner(options, options["batch"])
    estimate = planner.fastest if options["plan"] == "fastest" else planner.smallest
    meter = Peaks(place)
    one_step = _training(options, options["batch"], estimate.plan)
    one_step()
    first = meter.read()
    meter = Peaks(place)
    for _ in range(2):
        one_step()
    later = meter.read()
    result = {"predicted_bytes": estimate.peak, "predicted_ms": round(1e3 * estimate.seconds, 2)}
    if place.type == "cuda":
        result |= {"predicted_reserved_bytes": estimate.reserved, "measured_bytes": later["peak_allocated_bytes"]}
        result |= {"measured_reserved_bytes": later["peak_reserved_bytes"]}
        result |= {f"first_{key}": value for key, value in first.items()}
    return result


def largest_batch(options: Options) -> Result:
    """The most images that train with torch's allocator capped at the budget, beside the planner's prediction."""
    place, budget = torch.device(options["device"]), options["budget_bytes"]
    predicted = memory.largest_batch(
        options["model"], image_size(options["size"]), DTYPES[options["dtype"]], budget, place, options["optimizer"]
    )
    torch.cuda.set_per_process_memory_fraction(budget / torch.cuda.get_device_properties(place).total_memory)
    trials: list[tuple[int, bool]] = []
    batch = predicted
    while len(trials) < _MOST_TRIALS and time.monotonic() < options["deadline"] - 15.0:
        trials.append((batch, _fits(options, batch)))
        batch += 1 if trials[-1][1] else -1
        if batch in [tried for tried, _ in trials] or batch < 1:
            break
    best = max((batch for batch, fits in trials if fits), default=None)
    return {"predicted_batch": predicted, "measured_batch": best, "trials": trials}


def calibration(options: Options) -> Result:
    """Rates that `ladderseg plan --calibrate` measures, and the time of the default step that follows from them."""
    place, dtype = torch.device(options["device"]), DTYPES[options["dtype"]]
    rates = measure_rates(place, dtype)
    shape = options["batch"], 3, *image_size(options["size"])
    estimate = memory.estimate(options["model"], shape, None, dtype, place, rates=rates)
    return {"rates": rates.to_json(), "predicted_ms": round(1e3 * estimate.seconds, 2)}


def sanitizer(options: Options) -> Result:
    """A few small calls (sanitized_calls.py) under a tool of compute-sanitizer."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    command = shutil.which("compute-sanitizer") or shutil.which(f"{home}/bin/compute-sanitizer")
    if command is None:
        return {"absent": "compute-sanitizer is neither on the PATH nor in CUDA_HOME"}
    script = Path(__file__).with_name("sanitized_calls.py")
    line = [command, "--tool", options["tool"], sys.executable, str(script), options["device"]]
    # Each tensor in memory of its own, whose end is known, instead of a part of a larger block.
    variables = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    process = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
    output = process.stdout + process.stderr
    errors = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+) (?:error|hazard)", output)
    if not errors or SANITIZED_CALLS_DONE not in output:
        raise RuntimeError(f"compute-sanitizer gave no summary: {output[-300:]!r}")
    result = {"failed": sum(map(int, errors))}
    reports = re.findall(r"^=+ (\w.*)$", output, re.MULTILINE)
    return result | ({"reports": reports[:20]} if result["failed"] else {})


KINDS: dict[str, Callable[[Options], Result]] = {
    "device": device,
    "tests": tests,
    "step": step,
    "kernels": kernels,
    "prediction": prediction,
    "memory": memory_of_a_step,
    "largest_batch": largest_batch,
    "calibration": calibration,
    "sanitizer": sanitizer,
}

#: Types of maps; tf32 is a way to multiply float32.
DTYPES = {"float16": torch.float16, "tf32": torch.float32, "float32": torch.float32}


class Peaks:
    """Most bytes that torch's allocator has given out, and held, on a device since this object was made."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)

    def read(self) -> Result:
        """Numbers of bytes; none on the CPU, where the process's memory is not that of the step."""
        if self._place.type != "cuda":
            return {}
        return {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(self._place),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(self._place),
        }


def _step(options: Options) -> tuple[Callable[[], None], torch.device, Callable[[], dict[str, Tensor]]]:
    """A function that runs a step, the device, and a function that returns loss and gradients of the latest step."""
    place = torch.device(options["device"])
    model, criterion = build(options["method"], options["model"], NUM_CLASSES, channels_last=True)
    model.to(place)
    images, labels = _batch(options, place)
    latest: list[Tensor] = []
    scale = LOSS_SCALES["float16" if options["dtype"] == "float16" else "float32"]

    def one_step() -> None:
        model.zero_grad(set_to_none=True)
        with _autocast(options):
            loss = criterion(model(images), labels)
        (loss * scale).backward()
        latest[:] = [loss.detach()]

    return one_step, place, lambda: step_result(model, latest[0])


def _batch(options: Options, place: torch.device) -> tuple[Tensor, Tensor]:
    """Images and labels of batch and size, in the layout of the method."""
    images, labels = random_batch(options["batch"], image_size(options["size"]))
    if options["method"] != "lean":
        images = images.contiguous(memory_format=torch.channels_last)
    return images.to(place), labels.to(place)


def _autocast(options: Options) -> AbstractContextManager:
    return torch.autocast(options["device"], torch.float16) if options["dtype"] == "float16" else nullcontext()


def _timed(run: Callable[[], None], place: torch.device) -> Result:
    """Times of `run` in milliseconds, until Python has launched it and until the device has done it."""
    warmup, count = COUNTS[place.type]
    enqueued, finished = [], []
    for _ in range(warmup + count):
        started = now(place)
        run()
        enqueued.append(1e3 * (time.perf_counter() - started))
        finished.append(1e3 * (now(place) - started))
    times = finished[warmup:]
    named = {"median_ms": statistics.median(times), "best_ms": min(times), "worst_ms": max(times)}
    named |= {"first_ms": finished[0], "enqueue_ms": statistics.median(enqueued[warmup:])}
    return {name: round(milliseconds, 3) for name, milliseconds in named.items()} | {"steps": count, "warmup": warmup}


def _checked(result: Callable[[], dict[str, Tensor]], key: str, options: Options) -> Result:
    # Products in tf32 round to as many digits as float16.
    kind = "float32" if options["dtype"] == "float32" else "float16"
    found = {kind: result()}
    return {"loss": found[kind]["loss"].item()} | _against(
        key, found, lambda reference: relative_errors(found, reference), options
    )


def _against(key: str, found: Any, compare: Callable[[Any], dict], options: Options) -> Result:
    """Compares with what the first method has found under this key; raises RuntimeError if it is something else."""
    path = options["scratch"] / f"{key}.pt"
    if not path.exists():
        torch.save({"method": options["method"], "found": found}, path)
        return {}
    reference = torch.load(path, weights_only=True)
    errors = compare(reference["found"])
    reason = rejection(errors)
    if reason is not None:
        raise RuntimeError(reason)
    return {"errors": errors, "checked_against": reference["method"]}


def _planner(options: Options, batch: int) -> memory.Planner:
    shape = batch, 3, *image_size(options["size"])
    return memory.planner_for(
        options["model"], shape, DTYPES[options["dtype"]], options["device"], options["optimizer"]
    )


def _training(options: Options, batch: int, plan: Any) -> Callable[[], None]:
    """A function that trains a lean model for a step."""
    place = torch.device(options["device"])
    model: nn.Module = create_model(options["model"], NUM_CLASSES, memory=plan).to(place)
    optimizer, criterion = make_optimizer(options["optimizer"], model), LadderLoss()
    images, labels = _batch(options | {"method": "lean", "batch": batch}, place)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        with _autocast(options):
            loss = criterion(model(images), labels)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        now(place)

    return train


def _fits(options: Options, batch: int) -> bool:
    """Whether two steps of the smallest plan run."""
    try:
        train = _training(options, batch, _planner(options, batch).smallest.plan)
        train(), train()
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        train = None
        torch.cuda.empty_cache()
    return True


def _test_counts(process: subprocess.CompletedProcess[str]) -> Result:
    """Numbers from pytest's last lines."""
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", process.stdout)
    }
    seconds = re.search(r" in ([\d.]+)s", process.stdout)
    if seconds is None:
        raise RuntimeError(f"pytest gave no summary: {(process.stdout + process.stderr)[-300:]!r}")
    result = {"passed": counts.get("passed", 0), "skipped": counts.get("skipped", 0), "seconds": float(seconds[1])}
    result["failed"] = sum(counts.get(word, 0) for word in ("failed", "error", "errors"))
    failures = re.findall(r"^(?:FAILED|ERROR) \S*?(\w+\.py::\S+)", process.stdout, re.MULTILINE)
    return result | ({"failures": failures[:20]} if failures else {})


def _driver() -> str | None:
    """Version of NVIDIA's driver, as nvidia-smi says."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    line = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    output = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    return output.splitlines()[0].strip() if output.strip() else None


if __name__ == "__main__":
    main()
