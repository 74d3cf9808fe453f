"""The host's time of a lean step on CUDA: what Python and the core take to launch the kernels, without a GPU.

    python benchmarks/host_time.py [--model NAME] [--steps N] [--against CHECKOUT]

A driver that accepts launches and does nothing takes CUDA's place (stand_in_driver.cpp), and tensors lie on the CPU. So
the time is the host's alone, apart from torch's operators, which run on the CPU: the images are small, so that these
take about as long as their launches on a GPU would. Results mean nothing, and the labels' check is left out.

A training step is the model, LadderLoss and backward; a prediction is model.predict in evaluation mode. Each is
interpreted, as the first steps of a kind are, and repeated, as later ones are. Times are of the process, so that other
programs matter little. With --against, another checkout with its compiled core is measured in processes in turn with
this one.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

HERE = Path(__file__).resolve().parent

#: Height and width of the images: the smallest whose deepest map has several positions per channel.
SMALL = (128, 128)
BATCH = 2
CLASSES = 19

#: Full size, at which launches are counted, on tensors without memory.
LARGE = (1024, 2048)

#: Compute capability and multiprocessors of the GPU for which launches are counted: an H200.
GPU = 90, 132

DTYPES = ("float32", "float16")
KINDS = ("training", "prediction")


def main() -> None:
    options = parsed()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    checkouts = {"this": HERE.parent} | ({"other": options.against.resolve()} if options.against else {})
    runs: dict[str, list[dict]] = {name: [] for name in checkouts}
    for _ in range(options.repeats):
        for name, path in checkouts.items():
            runs[name].append(in_a_process(path, options))
    print(f"{options.model}, {BATCH} x {SMALL[0]}x{SMALL[1]}; launches at {BATCH} x {LARGE[0]}x{LARGE[1]} in brackets")
    print(f"{'':7}{'':14}{'':9}{'':13}{'ms':>9}{'launches':>15}{'operators':>11}")
    for key in runs["this"][0]:
        for name, each in runs.items():
            if key not in each[0]:
                continue
            rows = [run[key] for run in each]
            seconds = statistics.median(row["seconds"] for row in rows)
            launches = f"{rows[0]['launches']} ({rows[0]['large']})"
            print(f"{name:7}{key:36}{seconds * 1e3:9.2f}{launches:>15}{rows[0]['operators']:>11}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ladder_densenet121", metavar="NAME")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="timed steps of each kind (default: 10)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="processes of each checkout (default: 1)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout, with its compiled core")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_a_process(checkout: Path, options: argparse.Namespace) -> dict:
    """Measurements of the package in `checkout`, by this script."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure"]
    command += ["--model", options.model, "--steps", str(options.steps)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def measure(options: argparse.Namespace) -> dict[str, dict]:
    """Median seconds, launches and operators of torch per step, by kind of step."""
    import torch

    from ladderseg_fast.ops import deferred_checks
    from ladderseg_fast.ops.backend import EmulatedCuda, using

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # in memory that no kernel has written, they would take a fifth of the step's time
    deferred_checks.expect = lambda index, message: None
    with tempfile.TemporaryDirectory() as folder:
        driver = compiled(Path(folder))
        library = ctypes.CDLL(str(driver))
        library.launches_since.restype = ctypes.c_longlong
        backend = EmulatedCuda(str(driver), lambda *image: b"image")
        with using(backend):
            found = {}
            for dtype in DTYPES:
                for kind in KINDS:
                    step = step_of(options.model, dtype, kind, *SMALL, "cpu")
                    large = counted_launches(options.model, dtype, kind)
                    for way in ways(backend):
                        key = f"{kind:14}{dtype:9}{way}"
                        found[key] = timed(step, library, options.steps) | {"large": large}
    return found


def ways(backend: object) -> Iterator[str]:
    """Yields "interpreted", and "repeated" if the package can; until the next one, the backend runs steps so."""
    can_repeat = hasattr(backend, "repeats_steps")
    if can_repeat:
        backend.repeats_steps = False
    yield "interpreted"
    if can_repeat:
        backend.repeats_steps = True
        yield "repeated"


def compiled(folder: Path) -> Path:
    """The stand-in for the driver."""
    library = folder / "stand_in_driver.so"
    source = HERE / "stand_in_driver.cpp"
    subprocess.run(["g++", "-std=c++17", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return library


@dataclass(frozen=True)
class Step:
    """A training step or a prediction of `model`; `run` computes it."""

    model: "nn.Module"
    run: Callable[[], None]

    def clear(self) -> None:
        """Drops the gradients, which is not part of the step."""
        for parameter in self.model.parameters():
            parameter.grad = None


def step_of(name: str, dtype: str, kind: str, height: int, width: int, device: str) -> Step:
    """A step of a new model on new images; on the meta device in `dtype` itself, as there is no autocast."""
    import torch

    from ladderseg_fast import LadderLoss, create_model

    with torch.device(device):
        model = create_model(name, CLASSES).train(kind == "training")
        images = torch.zeros(BATCH, 3, height, width)
        labels = torch.zeros(BATCH, height, width, dtype=torch.uint8)
    narrow = getattr(torch, dtype)
    if device == "meta":
        model, images = model.to(narrow), images.to(narrow)
    criterion = LadderLoss()
    region = partial(torch.autocast, "cpu", narrow, enabled=dtype != "float32" and device != "meta")

    def train() -> None:
        with region():
            loss = criterion(model(images), labels)
        loss.backward()

    def predict() -> None:
        with region():
            model.predict(images)

    return Step(model, train if kind == "training" else predict)


def timed(step: Step, library: ctypes.CDLL, count: int) -> dict:
    """Median seconds of `count` steps after a few others; launches and operators of one step."""
    for _ in range(3):
        step.clear()
        step.run()
    seconds = []
    library.launches_since()
    for _ in range(count):
        step.clear()
        start = time.process_time()
        step.run()
        seconds.append(time.process_time() - start)
    launches = library.launches_since() // count
    return {"seconds": statistics.median(seconds), "launches": launches, "operators": operators(step)}


def operators(step: Step) -> int:
    """Calls of torch's operators that no other operator makes."""
    from torch.autograd.profiler import profile

    step.clear()
    with profile() as profiled:
        step.run()
    calls = [event for event in profiled.function_events if event.name.startswith("aten::")]
    return sum(not (event.cpu_parent and event.cpu_parent.name.startswith("aten::")) for event in calls)


def counted_launches(name: str, dtype: str, kind: str) -> int:
    """Launches of a step at full size."""
    from ladderseg_fast.ops.backend import RecordedCuda, using

    with using(RecordedCuda(*GPU)) as backend:
        step_of(name, dtype, kind, *LARGE, "meta").run()
        return len(backend.take_records())


if __name__ == "__main__":
    main()
