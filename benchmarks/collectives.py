"""Collective calls that synchronised batch norms make in a training step, and their bytes: lean models, and plain ones.

A lean step exchanges a channel's statistics once, and the sums for its correction once, for all batch norms that read
the channel. The calls are those of one step with stand-ins for two processes; they depend neither on the number of
processes nor on the images' size. torch's nn.SyncBatchNorm makes two calls for every module, whose sizes are read from
torch/nn/modules/_functions.py. Those of DistributedDataParallel, which averages gradients, come on top in either case.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from report import markdown_table
from torch import Tensor, distributed, nn

from ladderseg_fast import LadderLoss, SegmentationModel, create_model
from ladderseg_fast.models.registry import full_name

MODELS = ("ladder_densenet121", "ladder_densenet169", "ladder_resnet50")


@dataclass
class Collectives:
    """Collective calls by their names, and bytes that this process has passed to them."""

    calls: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, size: int) -> None:
        self.calls[name] += 1
        self.bytes[name] += size


@contextmanager
def counted(stand_in: bool = False) -> Iterator[Collectives]:
    """Region in which the calls of torch.distributed.all_gather and all_reduce by Python code are counted.

    stand_in: the calls do what they would if there were another process with the same numbers; there need be none.
    """
    found = Collectives()
    gather, reduce = distributed.all_gather, distributed.all_reduce

    def all_gather(outputs: list[Tensor], own: Tensor, *arguments: Any, **named: Any) -> Any:
        found.add("all_gather", own.nbytes)
        if not stand_in:
            return gather(outputs, own, *arguments, **named)
        for output in outputs:
            output.copy_(own)

    def all_reduce(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
        found.add("all_reduce", tensor.nbytes)
        if not stand_in:
            return reduce(tensor, *arguments, **named)
        tensor.mul_(2)

    patches: dict[str, Callable[..., Any]] = {"all_gather": all_gather, "all_reduce": all_reduce}
    if stand_in:
        patches |= {"is_initialized": lambda: True, "get_world_size": lambda group=None: 2}
    with mock.patch.multiple(distributed, **patches):
        yield found


def of_lean(model: SegmentationModel, images: Tensor, labels: Tensor) -> Collectives:
    """Counts the calls of a training step of `model`, in which every batch norm is synchronised."""
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model, process_group=object())
    with counted(stand_in=True) as found:
        LadderLoss()(synchronised(images), labels).backward()
    return found


def of_plain(model: SegmentationModel, images: Tensor) -> Collectives:
    """Counts the calls that torch's nn.SyncBatchNorm would make in a training step of `model`, in plain mode."""
    found = Collectives()

    def count(norm: nn.BatchNorm2d, inputs: object, output: Tensor) -> None:
        size = output.element_size()
        found.add("all_gather", size * (2 * norm.num_features + 1))  # mean, invstd and the count
        found.add("all_reduce", size * 2 * norm.num_features)  # sum_dy and sum_dy_xmu

    hooks = [each.register_forward_hook(count) for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    model.memory = "plain"
    model(images)
    for hook in hooks:
        hook.remove()
    return found


def row(name: str, found: Collectives) -> list[str]:
    counts = [f"{found.calls[kind]} ({found.bytes[kind] / 1e3:.0f} kB)" for kind in ("all_gather", "all_reduce")]
    return [name, *counts, f"{found.calls.total()} ({found.bytes.total() / 1e3:.0f} kB)"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, type=full_name, metavar="NAME", help="as create_model's")
    parser.add_argument("--size", type=int, default=128, metavar="N", help="height and width of the images")
    options = parser.parse_args()
    images = torch.randn(2, 3, options.size, options.size)
    labels = torch.zeros(2, options.size, options.size, dtype=torch.int64)
    rows = [["", "forward", "backward", "both"]]
    for name in options.models:
        rows.append(row(f"{name}, plain", of_plain(create_model(name), images)))
        rows.append(row(f"{name}, lean", of_lean(create_model(name), images, labels)))
    print(markdown_table(rows))
    print("\nCollective calls of a training step in float32, and bytes that a process passes to them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
