"""Trains a few steps with a given memory plan in this process; prints one line of JSON: peak bytes and seconds per
step.

Counting begins once everything is imported, so it includes model, optimizer, images and labels.
"""

import argparse
import json
import resource
import statistics
import time

import torch

# As in train_step.py: 800 modules that the first optimiser imports are nobody's memory here.
import torch._dynamo
from arguments import DTYPES, autocast, check_dtype, image_size, memory_plan, model_name, positive
from peak_memory import started_meter
from train_step import NUM_CLASSES, SEED, random_batch

from ladderseg_fast import LadderLoss, SegmentationModel, create_model


def main() -> None:
    options = parse_arguments()
    if options.limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (options.limit, options.limit))
    torch.manual_seed(SEED)
    device = torch.device(options.device)
    meter = started_meter(device)
    model = create_model(options.model, NUM_CLASSES).to(device)
    model.memory = options.plan
    optimizer = make_optimizer(options.optimizer, model)
    seconds, losses = [], []
    images, labels = (each.to(device) for each in random_batch(options.batch, options.size))
    for _ in range(options.steps):
        started = time.perf_counter()
        losses.append(step(model, optimizer, images, labels, options))  # a number, so the device has done its work
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"peak_bytes": meter.stop(), "seconds": statistics.median(seconds[1:]), "losses": losses}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=model_name, required=True)
    parser.add_argument("--size", type=image_size, required=True)
    parser.add_argument("--batch", type=positive, required=True)
    parser.add_argument("--steps", type=positive, default=3, help="the first is not timed (default: 3)")
    parser.add_argument("--optimizer", choices=["none", "sgd", "adam"], default="none")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--plan", type=memory_plan, required=True, metavar="JSON", help="MemoryPlan.as_dict")
    parser.add_argument("--limit", type=positive, metavar="BYTES", help="RLIMIT_DATA of this process")
    options = parser.parse_args()
    check_dtype(parser, options)
    return options


def step(
    model: SegmentationModel,
    optimizer: torch.optim.Optimizer | None,
    images: torch.Tensor,
    labels: torch.Tensor,
    options: argparse.Namespace,
) -> float:
    """Runs one step of training; returns the loss."""
    model.zero_grad(set_to_none=True)
    with autocast(options):
        loss = LadderLoss()(model(images), labels)
    loss.backward()
    if optimizer is not None:
        optimizer.step()
    return loss.item()


def make_optimizer(name: str, model: SegmentationModel) -> torch.optim.Optimizer | None:
    if name == "none":
        return None
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    return torch.optim.Adam(model.parameters(), lr=1e-4)


if __name__ == "__main__":
    main()
