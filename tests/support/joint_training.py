"""Trainings of small ladders by several processes, and by one on the joint batch."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from support.ladder_models import CLASSES, NARROW, NARROW_SHAPE, NarrowLadder, make_images, make_labels
from support.lean_equals_plain import away_from_kinks, randomise
from support.reference_batch_norm import use_reference
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ladderseg_fast import LadderLoss, SegmentationModel
from ladderseg_fast.lean import MemoryPlan, SectionPlan
from ladderseg_fast.models.design import Design
from ladderseg_fast.models.resnets import ResNet
from ladderseg_fast.nn import DENSENETS, RESNETS, Bottleneck, ResNetShape

#: Everything in strips, or made again.
SMALL = MemoryPlan(
    chunk_bytes=1 << 14,
    transition_up_bytes=1 << 14,
    keep_bottlenecks_from=None,
    sections={
        "db1": SectionPlan(None, bottleneck_bytes=1 << 14, recompute=True, keep_skip=True),
        "db2": SectionPlan(None, bottleneck_bytes=1 << 14),
    },
)


class _Narrow:
    """Bottlenecks with a quarter of the usual channels, so that a tiny ResNet has a million weights and not ten."""

    expansion = 1

    def __new__(cls, in_channels: int, width: int, stride: int = 1, dilation: int = 1) -> Bottleneck:
        return Bottleneck(in_channels, width // Bottleneck.expansion, stride, dilation)


def narrow_resnet_ladder(num_classes: int, memory: str | MemoryPlan) -> SegmentationModel:
    return SegmentationModel(Design(ResNet(NARROW), (4,), width=32), num_classes, memory)


#: Most elements of a tensor that are kept for comparison, evenly spread.
_COMPARED = 4096

Edit = Callable[[SegmentationModel], None]


@dataclass(frozen=True)
class Training:
    """What one process does.

    sizes: images, height and width of each process's batches, in turn.
    ignored: processes whose labels are all ignored.
    synchronised: what of the model nn.SyncBatchNorm.convert_sync_batchnorm converts; "": nothing, None: all of it.
    edit: changes the model first.
    data_parallel: options of DistributedDataParallel.
    accumulate: batches that each step takes, all but the last without a reduction.
    """

    model: Callable[..., SegmentationModel] = NarrowLadder
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: str | MemoryPlan = "lean"
    dtype: torch.dtype = torch.float64
    sizes: tuple[tuple[int, int, int], ...] = ((1, 64, 64),)
    ignored: tuple[int, ...] = ()
    synchronised: tuple[str, ...] | None = None
    edit: Edit | None = None
    data_parallel: Mapping[str, Any] = field(default_factory=dict)
    accumulate: int = 1
    auxiliary_only: bool = False
    steps: int = 1

    def batch(self, rank: int, step: int) -> tuple[Tensor, Tensor]:
        """Images and labels of a process."""
        size, seed = self.sizes[rank % len(self.sizes)], 100 * step + rank
        labels = make_labels(*size, seed=seed)
        return make_images(*size, dtype=self.dtype, seed=seed), labels.fill_(255) if rank in self.ignored else labels

    def make(self) -> SegmentationModel:
        """The model that all processes begin with, in training mode."""
        DENSENETS[NARROW] = NARROW_SHAPE
        RESNETS[NARROW] = ResNetShape(_Narrow, (2, 1, 1, 2))
        model = randomise(self.model(num_classes=CLASSES, memory=self.memory, **self.options))
        away_from_kinks(model).to(self.dtype)  # rounding grows from step to step
        if self.edit is not None:
            self.edit(model)
        return model

    def loss(self, output: Any, labels: Tensor) -> Tensor:
        criterion = LadderLoss(memory="lean" if self.memory != "plain" else "plain")
        if self.auxiliary_only:
            output = type(output)(output.aux, None)
        return criterion(output, labels)


def convert(model: SegmentationModel, parts: tuple[str, ...] | None, group: Any) -> None:
    """Converts modules of the model, all if `parts` is None; for the CPU if the model is plain."""
    for name in [name for name, _ in model.named_children()] if parts is None else parts:
        parent, _, child = name.rpartition(".")
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(model.get_submodule(name), group)
        setattr(model.get_submodule(parent), child, converted)
    if model.memory == "plain":
        use_reference(model)


def train(
    training: Training, rank: int, group: Any = None, first: int = 0, encoder_group: Any = None
) -> dict[str, Tensor]:
    """Runs the steps as one process of `group`, whose first one has the rank `first`.

    encoder_group: the processes that share the encoder's statistics, if they are others.
    """
    model = training.make()
    parallel = DistributedDataParallel(model, process_group=group, **training.data_parallel)
    convert(model, training.synchronised, group)  # on the CPU not before: DistributedDataParallel refuses it
    if encoder_group is not None:
        convert(model, ("features",), encoder_group)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    done: dict[str, Tensor] = {}
    for step in range(training.steps):
        optimiser.zero_grad()
        for part in range(training.accumulate):
            last = part == training.accumulate - 1
            with contextlib.nullcontext() if last else parallel.no_sync():
                images, labels = training.batch(rank - first, step * training.accumulate + part)
                loss = training.loss(parallel(images), labels)
                loss.backward()
            done[f"step {step}.{part}: loss"] = loss.detach()
        done |= _gradients(model, step)
        optimiser.step()
    return done | _state(model)


def train_alone(training: Training, count: int) -> dict[str, Tensor]:
    """The same by one process, plain, on the batches of `count` processes as one."""
    model = training.make()
    model.memory = "plain"
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    done: dict[str, Tensor] = {}
    for step in range(training.steps):
        optimiser.zero_grad()
        batches = [training.batch(rank, step) for rank in range(count)]
        output = model(torch.cat([images for images, _ in batches]))
        sizes = [len(images) for images, _ in batches]
        outputs = [output._make(scores) for scores in zip(*(scores.split(sizes) for scores in output))]
        losses = [LadderLoss()(each, labels) for each, (_, labels) in zip(outputs, batches, strict=True)]
        torch.stack(losses).mean().backward()
        done |= {f"rank {rank}: step {step}.0: loss": loss.detach() for rank, loss in enumerate(losses)}
        done |= _gradients(model, step)
        optimiser.step()
    return done | _state(model)


def _gradients(model: nn.Module, step: int) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {f"step {step}: gradient of {name}": compared(gradient) for name, gradient in found.items()}


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {f"{name} at the end": compared(tensor) for name, tensor in model.state_dict().items()}


def compared(tensor: Tensor) -> Tensor:
    """A copy of some elements of `tensor`."""
    return tensor.detach().flatten()[:: max(1, tensor.numel() // _COMPARED)].clone()
