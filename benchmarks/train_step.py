"""Measures one method's training step in this process; prints one line of JSON.

The step is forward, loss and backward, with the gradients kept and no optimiser. `memory.py` starts this script once
per method and repeat, so that no method profits from, or pays for, what another left behind.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

# Checkpointing and custom operators import this and 800 other modules (60 MB) at their first call, and every training
# does when it makes its optimiser. Imported here, it counts as no method's memory or time.
import torch._dynamo
from alternatives import METHODS, build
from arguments import add_step_options, autocast, memory_plan, parsed_step
from peak_memory import started_meter
from result_check import exact_result, relative_errors, step_result
from torch import Tensor, nn

NUM_CLASSES = 19
SEED = 0

#: Scale of the loss, so that gradients of float16 maps are not zero: torch.amp.GradScaler's first. All methods use it.
LOSS_SCALES = {"float32": 1.0, "float16": 2.0**16, "bfloat16": 1.0}


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(SEED)
    model, loss = build(options.method, options.model, NUM_CLASSES, options.channels_last)
    if options.plan is not None:
        model.memory = options.plan
    model.to(device)
    images, labels = random_batch(options.batch, options.size)
    if options.channels_last and options.method != "lean":
        images = images.contiguous(memory_format=torch.channels_last)
    images, labels = images.to(device), labels.to(device)

    measured, value = measure(model, loss, images, labels, options)
    results = {options.dtype: step_result(model, value), "float64": exact_result(model, loss, images, labels)}
    if options.save_reference:
        torch.save(results, options.save_reference)
    if options.reference:
        reference = torch.load(options.reference, weights_only=True)
        measured["errors"] = relative_errors(results, reference)
    print(json.dumps(measured | {"loss": value.item(), "machine": machine(device)}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, required=True)
    add_step_options(parser)
    parser.add_argument("--plan", type=memory_plan, metavar="JSON", help="of the method lean: MemoryPlan.as_dict")
    parser.add_argument("--save-reference", type=Path, metavar="FILE", help="write loss and gradients there")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="compare loss and gradients with those")
    options = parsed_step(parser)
    if options.plan is not None and options.method != "lean":
        parser.error("--plan needs --method lean")
    return options


def random_batch(batch: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Random images [N, 3, H, W] float32 and labels [N, H, W] uint8."""
    images = torch.randn(batch, 3, *size)
    labels = torch.randint(0, NUM_CLASSES, (batch, *size), dtype=torch.uint8)
    return images, labels


def measure(
    model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, options: argparse.Namespace
) -> tuple[dict, Tensor]:
    """Peak bytes over all steps, median seconds of those after the warm-up, and the last step's loss."""
    meter = started_meter(images.device)
    seconds = []
    for _ in range(options.warmup + options.steps):
        model.zero_grad(set_to_none=True)
        started = now(images.device)
        with autocast(options):
            value = loss(model(images), labels)
        (value * LOSS_SCALES[options.dtype]).backward()
        seconds.append(now(images.device) - started)
    peak = meter.stop()
    seconds = statistics.median(seconds[options.warmup :])
    memory = {"peak_bytes": peak, "reserved_bytes": meter.reserved, "how_measured": meter.how}
    return memory | {"seconds": seconds}, value


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def machine(device: torch.device) -> dict[str, str | int]:
    """Facts about the machine that a reader needs to judge the numbers."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
