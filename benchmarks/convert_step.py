"""Measures one method's training step of a network of another library in this process; prints one line of JSON.

`convert.py` starts this script once per method and repeat. train_step.py does the same for this package's models.
"""

import argparse
import json
from pathlib import Path

import torch
import torch._dynamo  # see train_step.py
import torch.nn.functional as F
from arguments import add_batch_options, parsed_step
from other_networks import CLASSES, NETWORKS
from result_check import relative_errors, step_result
from torch import Tensor, nn
from train_step import SEED, machine, measure

import ladderseg_fast

METHODS = ("plain", "checkpoint", "converted")

#: Most images, rows and columns of the batch in the float64 step that is compared with that of plain.
EXACT_SHAPE = (2, 128, 128)


class NothingConverted(Exception):
    """The conversion left every part of the network alone."""


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(SEED)
    network = NETWORKS[options.network]
    model = network.build().to(device)
    images, labels = random_batch(options.batch, options.size, network.dense)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    images, labels = images.to(device), labels.to(device)
    if options.method == "checkpoint":
        network.checkpoint(model)
    left = convert(model) if options.method == "converted" else []

    measured, value = measure(model, F.cross_entropy, images, labels, options)
    results = {options.dtype: step_result(model, value), "float64": exact_result(model, images, labels)}
    if options.save_reference:
        torch.save(results, options.save_reference)
    if options.reference:
        reference = torch.load(options.reference, weights_only=True)
        measured["errors"] = relative_errors(results, reference)
    print(json.dumps(measured | {"loss": value.item(), "machine": machine(device), "left": left}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    add_batch_options(parser)
    parser.add_argument("--save-reference", type=Path, metavar="FILE", help="write loss and gradients there")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="compare loss and gradients with those")
    return parsed_step(parser)


def random_batch(batch: int, size: tuple[int, int], dense: bool) -> tuple[Tensor, Tensor]:
    """Random images [N, 3, H, W] float32, and classes [N, H, W] of their pixels if `dense`, or [N] of themselves."""
    images = torch.randn(batch, 3, *size)
    return images, torch.randint(0, CLASSES, (batch, *size) if dense else (batch,))


def convert(model: nn.Module) -> list[str]:
    """Converts the model; returns what was left alone, and why.

    Raises:
        NothingConverted: everything was.
    """
    report = ladderseg_fast.convert(model)
    left = [f"{path}: {reason}" for path, reason in report.left.items()]
    if not report.converted:
        raise NothingConverted("; ".join(left) or "no part of it is known")
    return left


def exact_result(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Runs step_result of a float64 step on a part of the batch, EXACT_SHAPE; turns the model into float64."""
    count, height, width = EXACT_SHAPE
    model.double().zero_grad(set_to_none=True)
    scores = model(images[:count, :, :height, :width].double())
    targets = labels[:count, :height, :width] if labels.dim() > 1 else labels[:count]
    value = F.cross_entropy(scores, targets)
    value.backward()
    return step_result(model, value)


if __name__ == "__main__":
    main()
