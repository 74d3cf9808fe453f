"""The models of the paper whose downsampling path is a DenseNet."""

import os
from collections.abc import Sequence

from ..lean import MemoryPlan
from ..nn import DENSENETS, DenseNetFeatures
from .segmentation_model import SegmentationModel, check_choice


class LadderDenseNet(SegmentationModel):
    """Ladder-style DenseNet for semantic segmentation (Kreso, Krapac, Segvic, ICCV workshops 2017, Figure 1).

    A DenseNet whose fourth block is split in two halves by an average pooling, a context layer at 1/64 of the images'
    resolution, and a transition up of 128 channels for each dense block and first half, the coarsest first. Scores are
    at 1/4, auxiliary scores at 1/64.

    Args:
        backbone: "densenet121", "densenet161", "densenet169" or "densenet201".
        num_classes: K, 1 to 256.
        memory: "lean", "plain", a budget such as "8GiB", or a MemoryPlan.
        in_channels: channels of the images.
        weights: None, a file with pretrained weights of the backbone, or "imagenet".
        frozen_bn: every BatchNorm stays in inference mode while training.
        context: "dilated", or "pyramid" for spatial pyramid pooling in the place of the context layer.
        auxiliary: whether there is a head for the auxiliary loss.
        split_blocks: dense blocks that an average pooling splits in two halves. With (3, 4) the context layer is at
            1/128, and there are five transitions up. The paper leaves open where: each is split in the middle.

    SegmentationModel says more of these, and of the attributes.

    Raises:
        ValueError: an argument is out of range, or the weights do not fit.
    """

    def __init__(
        self,
        backbone: str = "densenet121",
        num_classes: int = 19,
        memory: str | int | MemoryPlan = "lean",
        *,
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
        context: str = "dilated",
        auxiliary: bool = True,
        split_blocks: Sequence[int] = (4,),
    ) -> None:
        if not set(split_blocks) <= {1, 2, 3, 4}:
            raise ValueError(f"split_blocks must be numbers from 1 to 4, got {tuple(split_blocks)}")
        features = _features(backbone, in_channels, split_blocks=tuple(split_blocks))
        super().__init__(
            features,
            skips=[section.name for section in reversed(features.sections[:-1])],
            configuration={
                "backbone": backbone,
                "num_classes": num_classes,
                "in_channels": in_channels,
                "frozen_bn": frozen_bn,
                "context": context,
                "auxiliary": auxiliary,
                "split_blocks": list(split_blocks),
            },
            num_classes=num_classes,
            context=context,
            auxiliary=auxiliary,
            frozen_bn=frozen_bn,
            memory=memory,
            weights=weights,
            architecture=backbone,
        )


class DenseNet32x(SegmentationModel):
    """A DenseNet without an upsampling path: scores from the context output at 1/32 of the images' resolution.

    The baseline that the paper calls DenseNet-121 32x. Its context layer is that of the ladder, its fourth block is not
    split. There is no auxiliary head, which would repeat the head.

    Args and Raises: as LadderDenseNet.
    """

    def __init__(
        self,
        backbone: str = "densenet121",
        num_classes: int = 19,
        memory: str | int | MemoryPlan = "lean",
        *,
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
    ) -> None:
        super().__init__(
            _features(backbone, in_channels),
            skips=(),
            configuration=_configuration(backbone, num_classes, in_channels, frozen_bn),
            num_classes=num_classes,
            auxiliary=False,
            frozen_bn=frozen_bn,
            memory=memory,
            weights=weights,
            architecture=backbone,
        )


class DilatedDenseNet(SegmentationModel):
    """A DenseNet that stays at 1/8 of the images' resolution, and one transition up to 1/4.

    The baseline that the paper calls Dilated 8x DenseNet-121 4x: its last two dense blocks are dilated (rates 2 and 4)
    and have no pooling before them. The skip connection is the first block's. The paper leaves open what the context
    layer and the losses are: they are the ladder's, the auxiliary scores are at 1/8.

    Args and Raises: as LadderDenseNet.
    """

    def __init__(
        self,
        backbone: str = "densenet121",
        num_classes: int = 19,
        memory: str | int | MemoryPlan = "lean",
        *,
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
    ) -> None:
        super().__init__(
            _features(backbone, in_channels, dilated=True),
            skips=("db1",),
            configuration=_configuration(backbone, num_classes, in_channels, frozen_bn),
            num_classes=num_classes,
            frozen_bn=frozen_bn,
            memory=memory,
            weights=weights,
            architecture=backbone,
        )


def _features(
    backbone: str, in_channels: int, split_blocks: Sequence[int] = (), dilated: bool = False
) -> DenseNetFeatures:
    check_choice("backbone", backbone, DENSENETS)
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}")
    shape = DENSENETS[backbone]
    return DenseNetFeatures(
        shape.block_layers, shape.stem_channels, shape.growth_rate, in_channels, split_blocks, dilated
    )


def _configuration(backbone: str, num_classes: int, in_channels: int, frozen_bn: bool) -> dict[str, object]:
    return {"backbone": backbone, "num_classes": num_classes, "in_channels": in_channels, "frozen_bn": frozen_bn}
