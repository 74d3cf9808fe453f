"""Measures one method's prediction in this process; prints one line of JSON.

The prediction turns images into labels at full resolution, in evaluation mode and without gradients.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from arguments import add_step_options, parsed_step
from peak_memory import started_meter
from prediction_methods import LEAN_BFLOAT16, ONNXRUNTIME, PREDICTION_METHODS, predictor
from torch import Tensor
from train_step import SEED, machine, now, random_batch


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    predict = predictor(options, options.onnx)
    torch.manual_seed(SEED)
    images = random_batch(options.batch, options.size)[0].to(device)
    if options.channels_last and options.method not in ("lean", LEAN_BFLOAT16, ONNXRUNTIME):
        images = images.contiguous(memory_format=torch.channels_last)

    measured, labels = measure(predict, images, options)
    if options.save_reference:
        torch.save(labels, options.save_reference)
    if options.reference:
        reference = torch.load(options.reference, weights_only=True)
        # Where two classes tie but for rounding, either may win.
        in_float32 = options.dtype == "float32" and options.method != LEAN_BFLOAT16
        kind = "prediction" if in_float32 else "16-bit prediction"
        measured["errors"] = {kind: {"labels": (labels != reference).double().mean().item()}}
    print(json.dumps(measured | {"machine": machine(device)}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=PREDICTION_METHODS, required=True)
    add_step_options(parser)
    parser.add_argument("--save-reference", type=Path, metavar="FILE", help="write the labels there")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="compare the labels with those")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="the exported model, for the method onnxruntime")
    return parsed_step(parser)


def measure(predict: Callable[[Tensor], Tensor], images: Tensor, options: argparse.Namespace) -> tuple[dict, Tensor]:
    """Peak bytes over all predictions, median seconds of those after the warm-up, and the labels."""
    meter = started_meter(images.device)
    seconds = []
    for _ in range(options.warmup + options.steps):
        started = now(images.device)
        labels = predict(images)
        seconds.append(now(images.device) - started)
    peak = meter.stop()
    seconds = statistics.median(seconds[options.warmup :])
    memory = {"peak_bytes": peak, "reserved_bytes": meter.reserved, "how_measured": meter.how}
    return memory | {"seconds": seconds}, labels


if __name__ == "__main__":
    main()
