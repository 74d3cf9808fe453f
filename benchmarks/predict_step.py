"""Measures one method's prediction in this process; prints one line of JSON.

The prediction turns images into labels at full resolution, in evaluation mode and without gradients.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from alternatives import METHODS, build
from arguments import add_step_options, autocast, parsed_step
from peak_memory import started_meter
from torch import Tensor, nn
from train_step import NUM_CLASSES, SEED, machine, now, random_batch


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(SEED)
    model, _ = build(options.method, options.model, NUM_CLASSES, options.channels_last)
    model.to(device).eval()
    images = random_batch(options.batch, options.size)[0].to(device)
    if options.channels_last and options.method != "lean":
        images = images.contiguous(memory_format=torch.channels_last)

    measured, labels = measure(model, images, options)
    if options.save_reference:
        torch.save(labels, options.save_reference)
    if options.reference:
        reference = torch.load(options.reference, weights_only=True)
        # Where two classes tie but for rounding, either may win.
        kind = "prediction" if options.dtype == "float32" else "16-bit prediction"
        measured["errors"] = {kind: {"labels": (labels != reference).double().mean().item()}}
    print(json.dumps(measured | {"machine": machine(device)}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, required=True)
    add_step_options(parser)
    parser.add_argument("--save-reference", type=Path, metavar="FILE", help="write the labels there")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="compare the labels with those")
    return parsed_step(parser)


def measure(model: nn.Module, images: Tensor, options: argparse.Namespace) -> tuple[dict, Tensor]:
    """Peak bytes over all predictions, median seconds of those after the warm-up, and the labels."""
    meter = started_meter(images.device)
    seconds = []
    for _ in range(options.warmup + options.steps):
        started = now(images.device)
        with autocast(options):
            labels = model.predict(images)
        seconds.append(now(images.device) - started)
    peak = meter.stop()
    seconds = statistics.median(seconds[options.warmup :])
    memory = {"peak_bytes": peak, "reserved_bytes": meter.reserved, "how_measured": meter.how}
    return memory | {"seconds": seconds}, labels


if __name__ == "__main__":
    main()
