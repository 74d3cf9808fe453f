"""Stages of the lean step and small whole models, as the numerics draw them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from support.ladder_models import CLASSES, TINY, TINY_SHAPE
from torch import Tensor, nn

from ladderseg_fast import LadderDenseNet, lean
from ladderseg_fast.models import DenseNet32x, DilatedDenseNet, LadderResNet
from ladderseg_fast.models.segmentation_model import SegmentationModel
from ladderseg_fast.nn import (
    DENSENETS,
    RESNETS,
    BasicBlock,
    BasicDenseBlock,
    Bottleneck,
    Context,
    DenseBlock,
    Head,
    PyramidContext,
    ResNetShape,
    Transition,
    TransitionUp,
)

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Stage:
    """A module, the function that runs it lean, and the inputs that it takes."""

    make: Callable[[int], nn.Module]
    """Makes it from the channels of the last input."""
    lean: Callable[..., Tensor]
    plain: Callable[..., Tensor] = lambda module, *inputs: module(*inputs)
    inputs: Callable[[Shape], Sequence[Shape]] = lambda shape: [shape]
    """Shapes of all inputs, from that of the last one."""
    reach: int = 0
    """Pixels of the output by which Winograd's tiles may carry a NaN farther than plain PyTorch: three for every 3x3
    convolution, times its dilation."""
    drops_odd: bool = False
    """Whether its pooling leaves out an odd last row and column."""
    picks: bool = False
    """Whether its pooling takes maxima, and passes gradients of nothing else to its batch norm."""


class Stem(nn.Module):
    """The entry of a DenseNet."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(in_channels, 8, 7, stride=2, padding=3, bias=False)
        self.norm0 = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return F.max_pool2d(self._activations(images), 3, stride=2, padding=1)

    def _activations(self, images: Tensor) -> Tensor:
        return self.norm0(self.conv0(images)).relu()

    def least_lead(self, images: Tensor) -> float:
        """Smallest distance from a maximum of the pooling to the next smaller value that is not equal to it.

        A fraction of the largest activation. Where it is within rounding, that decides which pixel gets the gradient.
        """
        activations = self._activations(images).detach()
        padded = F.pad(activations, (1, 1, 1, 1), value=-1.0)  # no activation is negative
        windows = padded.unfold(2, 3, 2).unfold(3, 3, 2).flatten(4)
        leads = windows.amax(dim=4, keepdim=True) - windows
        of_values = leads[(leads > 0) & (windows >= 0)]
        return (of_values.amin() / activations.amax()).item() if of_values.numel() else 1.0


def _residual(*units: Callable[[int], nn.Module], reach: int) -> Stage:
    """Units of a residual layer, which reads what a ReLU gives."""
    return Stage(
        lambda channels: nn.Sequential(*(unit(channels) for unit in units)),
        lambda module, x, **options: lean.residual_layer(module, x.relu(), **options),
        lambda module, x: module(x.relu()),
        reach=reach,
    )


STAGES: dict[str, Stage] = {
    "stem": Stage(Stem, lambda module, x, **options: lean.stem(module.conv0, module.norm0, x, **options), picks=True),
    "dense block": Stage(partial(DenseBlock, layers=2, growth_rate=5, bottleneck_width=3), lean.dense_block, reach=6),
    "dilated dense block": Stage(
        partial(DenseBlock, layers=2, growth_rate=5, bottleneck_width=3, dilation=2), lean.dense_block, reach=12
    ),
    "wide dense block": Stage(partial(DenseBlock, layers=1, growth_rate=32), lean.dense_block, reach=3),
    "basic dense block": Stage(
        partial(BasicDenseBlock, layers=2, growth_rate=5, dropout=0.0), lean.basic_dense_block, reach=6
    ),
    "transition": Stage(partial(Transition, out_channels=6), lean.transition, drops_odd=True),
    "transition without pooling": Stage(partial(Transition, out_channels=6, pooled=False), lean.transition),
    "context": Stage(partial(Context, hidden_channels=9, out_channels=6), lean.context, reach=6),
    "pyramid context": Stage(partial(PyramidContext, hidden_channels=12, out_channels=6), lean.context),
    "transition up": Stage(
        lambda channels: TransitionUp(6, channels, skip_channels=7, out_channels=5),
        lean.transition_up,
        inputs=lambda shape: [(shape[0], 6, -(-shape[2] // 2), -(-shape[3] // 2)), shape],
        reach=3,
    ),
    "head": Stage(partial(Head, num_classes=4), lean.head),
    "bottlenecks": _residual(
        lambda channels: Bottleneck(channels, 3, stride=2), lambda channels: Bottleneck(12, 3), reach=3
    ),
    "basic units": _residual(
        lambda channels: BasicBlock(channels, 5, stride=2), lambda channels: BasicBlock(5, 5), reach=9
    ),
}

#: Make small models.
MODELS: dict[str, Callable[..., SegmentationModel]] = {
    "ladder": partial(LadderDenseNet, TINY, CLASSES),
    "ladder, split blocks": partial(LadderDenseNet, TINY, CLASSES, split_blocks=(2, 4)),
    "ladder, pyramid context": partial(LadderDenseNet, TINY, CLASSES, context="pyramid"),
    "ladder, single loss": partial(LadderDenseNet, TINY, CLASSES, auxiliary=False),
    "32x": partial(DenseNet32x, TINY, CLASSES),
    "dilated": partial(DilatedDenseNet, TINY, CLASSES),
    "residual ladder": partial(LadderResNet, CLASSES, backbone=TINY),
}


def register_small_backbones() -> None:
    """Makes the backbones of MODELS known in this process."""
    DENSENETS[TINY] = TINY_SHAPE
    RESNETS[TINY] = ResNetShape(Bottleneck, (1, 1, 1, 2))


def lean_model(model: SegmentationModel, images: Tensor) -> list[Tensor]:
    return _outputs(model, "lean", images)


def plain_model(model: SegmentationModel, images: Tensor) -> list[Tensor]:
    return _outputs(model, "plain", images)


def _outputs(model: SegmentationModel, memory: str, images: Tensor) -> list[Tensor]:
    model.memory = memory
    return [scores for scores in model(images) if scores is not None]
