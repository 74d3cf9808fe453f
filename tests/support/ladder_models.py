"""Ladders, images and labels for tests of whole models."""

from collections.abc import Callable
from typing import Any

import torch
from support.lean_equals_plain import randomise
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss, LadderOutput, SegmentationModel
from ladderseg_fast.lean import MemoryPlan
from ladderseg_fast.models.densenets import DenseNet
from ladderseg_fast.models.design import Design
from ladderseg_fast.nn import DenseNetShape

#: A backbone for tests, small but with every kind of stage; see tests/conftest.py.
TINY = "tiny"
TINY_SHAPE = DenseNetShape((1, 2, 1, 2))
#: The same layers with fewer channels, for what takes long: trainings, the emulator.
NARROW = "narrow"
NARROW_SHAPE = DenseNetShape((1, 2, 1, 2), stem_channels=32, growth_rate=8)

CLASSES = 5


def make_model(
    backbone: str = TINY, memory: str = "lean", dtype: torch.dtype = torch.float64, seed: int = 0
) -> LadderDenseNet:
    """A model whose parameters and running statistics are all different."""
    return randomise(LadderDenseNet(backbone, CLASSES, memory=memory), seed).to(dtype)


def narrow_design(**choices: Any) -> Design:
    """That of a ladder on the narrow backbone, with a quarter of the usual channels elsewhere, too."""
    return Design(DenseNet(NARROW), (4,), width=32, **choices)


class NarrowLadder(SegmentationModel):
    """A ladder that differs from a LadderDenseNet in its width alone, or in its context layer too."""

    def __init__(
        self, num_classes: int = 19, memory: str | MemoryPlan = "lean", context: str = "dilated", **options: Any
    ) -> None:
        super().__init__(narrow_design(context=context), num_classes, memory, **options)


def make_narrow_model(
    memory: str = "lean", dtype: torch.dtype = torch.float64, seed: int = 0, context: str = "dilated"
) -> SegmentationModel:
    """A NarrowLadder whose parameters and running statistics are all different."""
    return randomise(NarrowLadder(CLASSES, memory, context), seed).to(dtype)


def in_mode(memory: str) -> Callable[[SegmentationModel, Tensor], LadderOutput]:
    """A forward pass that is lean, or plain."""

    def forward(model: SegmentationModel, images: Tensor) -> LadderOutput:
        model.memory = memory
        return model(images)

    return forward


def make_images(n: int, height: int, width: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def make_labels(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Labels in [0, CLASSES), about a fifth of them 255."""
    labels = torch.randint(0, CLASSES + 1, (n, height, width), generator=torch.Generator().manual_seed(seed))
    return labels.masked_fill(labels == CLASSES, 255)


def training_loss(model: SegmentationModel, images: Tensor, labels: Tensor) -> Tensor:
    """The loss of one step, computed the way `model.memory` says."""
    return LadderLoss(memory=model.memory)(model(images), labels)
