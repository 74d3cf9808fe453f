"""What each of four processes runs for tests/distributed; the tests compare the results."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from support.joint_training import SMALL, Training, train
from torch import Tensor, distributed, nn

from ladderseg_fast import LadderDenseNet, LadderResNet, SegmentationModel

#: Images of four processes: of different sizes, one of them with a single position at 1/64.
SIZES = ((1, 64, 64), (2, 64, 96), (1, 130, 64), (1, 97, 128))

EQUAL = Training(steps=10)


def freeze_batch_norms(model: SegmentationModel) -> None:
    """Every third batch norm of the encoder is in evaluation mode."""
    norms = [module for module in model.features.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms[::3]:
        norm.eval()


def freeze_encoder(model: SegmentationModel) -> None:
    model.features.requires_grad_(False)


def cumulative(model: SegmentationModel) -> None:
    """Batch norms with the averages of all batches, and without affine parameters."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.features.norm0.weight = model.features.norm0.bias = None
    model.features.norm0.affine = False


#: Trainings by all four processes, compared with one process.
JOINT = {
    "float64": EQUAL,
    "float32": replace(EQUAL, dtype=torch.float32),
    "strips": replace(EQUAL, memory=SMALL, steps=2),
}

#: The same by two pairs of processes, each with the same batches.
PAIRS = {"resnet": replace(EQUAL, model=LadderResNet)}

#: Trainings, lean and plain.
UNEQUAL = Training(sizes=SIZES, ignored=(3,))
BOTH = {
    "sizes": UNEQUAL,
    "strips": replace(UNEQUAL, memory=SMALL),
    "some frozen": replace(UNEQUAL, edit=freeze_batch_norms),
    "encoder without gradients": replace(UNEQUAL, edit=freeze_encoder, data_parallel={"find_unused_parameters": True}),
    "cumulative": replace(UNEQUAL, edit=cumulative),
    "encoder alone": replace(UNEQUAL, sizes=tuple((2, h, w) for _, h, w in SIZES), synchronised=("features",)),
    "pyramid": replace(UNEQUAL, options={"context": "pyramid"}),
}


def run(rank: int) -> dict[str, dict[str, Tensor]]:
    pairs = [distributed.new_group([0, 1]), distributed.new_group([2, 3])]
    done = {}
    def note(name, f, *a):
        s=time.time(); c=time.process_time(); done[name]=f(*a)
        if rank == 0: print(name, time.time()-s, time.process_time()-c, flush=True)
    for name, training in JOINT.items():
        note(f"joint: {name}", train,training, rank)
    first = rank // 2 * 2
    for name, training in PAIRS.items():
        if first == 0:
          note(f"pairs: {name}", train,training, rank, pairs[0], 0)
    for name, training in BOTH.items():
        note(f"lean: {name}", train,training, rank)
        note(f"plain: {name}", train,replace(training, memory="plain"), rank)
    return done
