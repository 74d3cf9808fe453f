"""Ladders, images and labels for tests of whole models."""

from collections.abc import Callable

import torch
from support.lean_equals_plain import randomise
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss, LadderOutput
from ladderseg_fast.nn import DenseNetShape

#: A backbone for tests, small but with every kind of stage; see tests/conftest.py.
TINY = "tiny"
TINY_SHAPE = DenseNetShape((1, 2, 1, 2))

CLASSES = 5


def make_model(
    backbone: str = TINY, memory: str = "lean", dtype: torch.dtype = torch.float64, seed: int = 0
) -> LadderDenseNet:
    """A model whose parameters and running statistics are all different."""
    return randomise(LadderDenseNet(backbone, CLASSES, memory=memory), seed).to(dtype)


def in_mode(memory: str) -> Callable[[LadderDenseNet, Tensor], LadderOutput]:
    """A forward pass that is lean, or plain."""

    def forward(model: LadderDenseNet, images: Tensor) -> LadderOutput:
        model.memory = memory
        return model(images)

    return forward


def make_images(n: int, height: int, width: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def make_labels(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Labels in [0, CLASSES), about a fifth of them 255."""
    labels = torch.randint(0, CLASSES + 1, (n, height, width), generator=torch.Generator().manual_seed(seed))
    return labels.masked_fill(labels == CLASSES, 255)


def training_loss(model: LadderDenseNet, images: Tensor, labels: Tensor) -> Tensor:
    """The loss of one step, computed the way `model.memory` says."""
    return LadderLoss(memory=model.memory)(model(images), labels)
