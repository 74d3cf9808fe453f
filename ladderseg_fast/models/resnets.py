"""The models of the paper whose downsampling path is a ResNet-50.

There is no dense block to save memory in: of the encoder only the stem is lean, its residual units keep what PyTorch
keeps. Context layer, transitions up, heads and loss are lean as everywhere.
"""

import os

from ..lean import MemoryPlan
from ..nn import ResNetFeatures
from .segmentation_model import SegmentationModel

_ARCHITECTURE = "resnet50"


class LadderResNet(SegmentationModel):
    """The ladder on a ResNet-50, which the paper calls LadderResNet-50 4x.

    As in the ladder DenseNet the context layer is at 1/64 of the images' resolution; see nn.ResNetFeatures for the
    pooling that leads there. Skip connections are the outputs of the four stages, of the fourth as far as that pooling.

    Args:
        num_classes: K, 1 to 256.
        memory: "lean", "plain", a budget such as "8GiB", or a MemoryPlan.
        in_channels: channels of the images.
        weights: None, a file with pretrained weights of a ResNet-50, or "imagenet".
        frozen_bn: every BatchNorm stays in inference mode while training.

    SegmentationModel says more of these, and of the attributes.

    Raises:
        ValueError: an argument is out of range, or the weights do not fit.
    """

    def __init__(
        self,
        num_classes: int = 19,
        memory: str | int | MemoryPlan = "lean",
        *,
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
    ) -> None:
        super().__init__(
            _features(in_channels, split=True),
            skips=("layer4a", "layer3", "layer2", "layer1"),
            configuration=_configuration(num_classes, in_channels, frozen_bn),
            num_classes=num_classes,
            frozen_bn=frozen_bn,
            memory=memory,
            weights=weights,
            architecture=_ARCHITECTURE,
        )


class ResNet32x(SegmentationModel):
    """A ResNet-50 without an upsampling path, which the paper calls ResNet-50 32x; see DenseNet32x.

    Args and Raises: as LadderResNet.
    """

    def __init__(
        self,
        num_classes: int = 19,
        memory: str | int | MemoryPlan = "lean",
        *,
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
    ) -> None:
        super().__init__(
            _features(in_channels),
            skips=(),
            configuration=_configuration(num_classes, in_channels, frozen_bn),
            num_classes=num_classes,
            auxiliary=False,
            frozen_bn=frozen_bn,
            memory=memory,
            weights=weights,
            architecture=_ARCHITECTURE,
        )


class DilatedResNet(SegmentationModel):
    """A ResNet-50 whose last two stages are dilated (rates 2 and 4), with one transition up from 1/8 to 1/4.

    The paper calls it Dilated 8x ResNet-50 4x; see DilatedDenseNet.

    Args and Raises: as LadderResNet.
    """

    def __init__(
        self,
        num_classes: int = 19,
        memory: str | int | MemoryPlan = "lean",
        *,
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
    ) -> None:
        super().__init__(
            _features(in_channels, dilated=True),
            skips=("layer1",),
            configuration=_configuration(num_classes, in_channels, frozen_bn),
            num_classes=num_classes,
            frozen_bn=frozen_bn,
            memory=memory,
            weights=weights,
            architecture=_ARCHITECTURE,
        )


def _features(in_channels: int, split: bool = False, dilated: bool = False) -> ResNetFeatures:
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}")
    return ResNetFeatures(in_channels, split, dilated)


def _configuration(num_classes: int, in_channels: int, frozen_bn: bool) -> dict[str, object]:
    return {"num_classes": num_classes, "in_channels": in_channels, "frozen_bn": frozen_bn}
