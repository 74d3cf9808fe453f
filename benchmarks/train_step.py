"""Measure one method's training step in this process; prints one line of JSON.

The step is forward, loss and backward, with the gradients kept and no optimiser. `memory.py` starts this script
once per method and repeat, so that no method profits from, or pays for, what another left behind.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from alternatives import METHODS, build
from arguments import add_step_options
from peak_memory import started_meter
from torch import Tensor, nn

NUM_CLASSES = 19
SEED = 0


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(SEED)
    model, loss = build(options.method, options.model, NUM_CLASSES, options.channels_last)
    model.to(device)
    images, labels = random_batch(options.batch, options.size)
    if options.channels_last and options.method != "lean":
        images = images.contiguous(memory_format=torch.channels_last)
    images, labels = images.to(device), labels.to(device)

    result = measure(model, loss, images, labels, options.warmup, options.steps)
    gradient = flat_gradient(model)
    if options.save_reference:
        torch.save({"loss": result["loss"], "gradient": gradient}, options.save_reference)
    if options.reference:
        reference = torch.load(options.reference, weights_only=True)
        result["loss_error"] = abs(result["loss"] - reference["loss"]) / abs(reference["loss"])
        result["gradient_error"] = relative_error(gradient, reference["gradient"])
    result["machine"] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, required=True)
    add_step_options(parser)
    parser.add_argument("--save-reference", type=Path, metavar="FILE", help="write loss and gradients there")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="compare loss and gradients with those")
    return parser.parse_args()


def random_batch(batch: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Images [N, 3, H, W] float32 and labels [N, H, W] uint8."""
    images = torch.randn(batch, 3, *size)
    labels = torch.randint(0, NUM_CLASSES, (batch, *size), dtype=torch.uint8)
    return images, labels


def measure(model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, warmup: int, steps: int) -> dict:
    """Peak bytes over all steps, median seconds of those after the warm-up, and the last step's loss."""
    meter = started_meter(images.device)
    seconds = []
    for _ in range(warmup + steps):
        model.zero_grad(set_to_none=True)
        started = now(images.device)
        value = loss(model(images), labels)
        value.backward()
        seconds.append(now(images.device) - started)
    return {
        "peak_bytes": meter.stop(),
        "how_measured": meter.how,
        "seconds": statistics.median(seconds[warmup:]),
        "loss": value.item(),
    }


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def flat_gradient(model: nn.Module) -> Tensor:
    """All parameters' gradients as one vector, on the CPU in float64.

    Raises:
        RuntimeError: a parameter has no gradient.
    """
    pieces = []
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            raise RuntimeError(f"the step left no gradient for {name}")
        pieces.append(parameter.grad.cpu().double().flatten())
    return torch.cat(pieces)


def relative_error(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||, Euclidean; infinite where the numbers of values differ."""
    if value.shape != reference.shape:
        return float("inf")
    return ((value - reference).norm() / reference.norm()).item()


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
