"""Time of a lean step, by operator of the core and by stage of the network.

GFLOP are the multiplications and additions of the matrix products that were done (a 3x3 convolution does a quarter or
4/9 of the plain sum's, see csrc/cpu/winograd.h). Their rate is compared with what the microkernel does on operands in
the first-level cache. Runs in this process and averages the times of a few steps. While it looks at them, predictions
are interpreted; otherwise the core repeats them, so that "the rest" almost vanishes (lean/recordings.py).
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from arguments import add_step_options, parsed_step
from report import markdown_table, network
from torch import Tensor
from train_step import NUM_CLASSES, SEED, machine, random_batch

from ladderseg_fast import LadderLoss, SegmentationModel, _core, create_model
from ladderseg_fast.lean.stages import Stage
from ladderseg_fast.ops.backend import Cpu, using
from ladderseg_fast.ops.cost import Cost


@dataclass
class Record:
    """Time and operations of the calls of one operator, or of one stage."""

    calls: int = 0
    seconds: float = 0.0
    operations: float = 0.0


Records = dict[str, Record]


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    model = create_model(options.model, NUM_CLASSES)
    images, labels = random_batch(options.batch, options.size)
    step = predicting(model, images) if options.predict else training(model, images, labels)
    for _ in range(options.warmup):
        step()
    operators: Records = defaultdict(Record)
    stages: Records = defaultdict(Record)
    record_stages(stages)
    with using(TimedCpu(operators)):
        started = time.perf_counter()
        for _ in range(options.steps):
            step()
        total = (time.perf_counter() - started) / options.steps
    peak = peak_rate()

    what = "prediction" if options.predict else "training step"
    size = "x".join(map(str, options.size))
    facts = machine(torch.device("cpu"))
    print(f"One {what} of {network(options.model)}, {options.batch} x {size}, float32: {total:.3f} s")
    print(f"on {facts['device']}, {facts['threads']} threads; products at best {peak / 1e9:.0f} GFLOP/s\n")
    print(table("operator", operators, total, peak, options.steps) + "\n")
    print(table("stage", stages, total, None, options.steps))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_step_options(parser)
    parser.add_argument("--predict", action="store_true", help="a prediction instead of a training step")
    options = parsed_step(parser)
    if options.device != "cpu":
        parser.error("breakdown.py measures the CPU only")
    return options


def training(model: SegmentationModel, images: Tensor, labels: Tensor) -> Callable[[], None]:
    criterion = LadderLoss()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        criterion(model(images), labels).backward()

    return step


def predicting(model: SegmentationModel, images: Tensor) -> Callable[[], None]:
    model.eval()
    return lambda: model.predict(images)


def peak_rate() -> float:
    """Operations per second of products in cache, with all threads busy."""
    best, repeats = 0.0, 1 << 16
    for _ in range(10):
        started = time.perf_counter()
        operations = _core.product_rate(_core.Cpu(_core.Element.float32, torch.get_num_threads()), repeats)
        best = max(best, operations / (time.perf_counter() - started))
    return best


class TimedCpu(Cpu):
    """The CPU's backend, which records what launches take and, of products, how many operations they are."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.observers = (self._count,)

    def launch(self, kernel: Callable[..., None], x: Tensor, *arguments: Any) -> None:
        started = time.perf_counter()
        super().launch(kernel, x, *arguments)
        record = self._records[kernel.__name__]
        record.seconds += time.perf_counter() - started
        record.calls += 1

    def _count(self, kernel: str, cost: Cost) -> None:
        if cost.kind != "cross_entropy":
            self._records[kernel].operations += cost.operations


def record_stages(records: Records) -> None:
    """Times the forward and the backward of every stage."""
    for stage in Stage.__subclasses__():
        for direction in ("forward", "backward"):
            setattr(stage, direction, timed(getattr(stage, direction), records, direction))


def timed(function: Callable[..., None], records: Records, direction: str) -> Callable[..., None]:
    def call(stage: Stage, *arguments: object) -> None:
        started = time.perf_counter()
        function(stage, *arguments)
        record = records[f"{type(stage).__name__} {stage.writes} {direction}"]
        record.seconds += time.perf_counter() - started
        record.calls += 1

    return call


def table(title: str, records: Records, total: float, peak: float | None, steps: int) -> str:
    """Table with one row per record, the largest first, and the rest of the total."""
    header = [title, "calls", "time", "share"] + (["GFLOP", "GFLOP/s", "of peak"] if peak else [])
    rows = [header]
    for name, record in sorted(records.items(), key=lambda item: -item[1].seconds):
        seconds, operations = record.seconds / steps, record.operations / steps
        row = [name, f"{record.calls / steps:.0f}", f"{1e3 * seconds:.1f} ms", f"{100 * seconds / total:.1f} %"]
        if peak:
            rate = operations / seconds
            known = [f"{operations / 1e9:.1f}", f"{rate / 1e9:.0f}", f"{100 * rate / peak:.0f} %"]
            row += known if operations else ["", "", ""]
        rows.append(row)
    rest = total - sum(record.seconds for record in records.values()) / steps
    rows.append(["the rest", "", f"{1e3 * rest:.1f} ms", f"{100 * rest / total:.1f} %"] + [""] * (len(header) - 4))
    return markdown_table(rows)


if __name__ == "__main__":
    main()
