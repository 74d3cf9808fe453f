"""Ladders, images and labels for tests of whole models."""

from collections.abc import Callable

import torch
from support.lean_equals_plain import randomise
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss, LadderOutput, SegmentationModel
from ladderseg_fast.models.densenets import DenseNet
from ladderseg_fast.models.design import Design
from ladderseg_fast.nn import DenseNetFeatures, DenseNetShape

#: A backbone for tests, small but with every kind of stage; see tests/conftest.py.
TINY = "tiny"
TINY_SHAPE = DenseNetShape((1, 2, 1, 2))

CLASSES = 5


def make_model(
    backbone: str = TINY, memory: str = "lean", dtype: torch.dtype = torch.float64, seed: int = 0
) -> LadderDenseNet:
    """A model whose parameters and running statistics are all different."""
    return randomise(LadderDenseNet(backbone, CLASSES, memory=memory), seed).to(dtype)


class _NarrowDenseNet(DenseNet):
    """The layers of the tiny backbone, which add a quarter of its channels."""

    def build(self, in_channels: int, split_blocks: tuple[int, ...], dilated: bool) -> DenseNetFeatures:
        return DenseNetFeatures(TINY_SHAPE.block_layers, 32, 8, in_channels, split_blocks, dilated)


def make_narrow_model(
    memory: str = "lean", dtype: torch.dtype = torch.float64, seed: int = 0, context: str = "dilated"
) -> SegmentationModel:
    """A ladder with a quarter of the channels in most places, for what takes long: the emulator, many steps."""
    design = Design(_NarrowDenseNet(), (4,), context=context, width=32)
    return randomise(SegmentationModel(design, CLASSES, memory), seed).to(dtype)


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
