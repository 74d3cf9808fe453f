"""ResNet-50 as an encoder, and the models of the paper on it.

A ResNet has no dense blocks, so only the encoder's stem is lean; its residual units keep what PyTorch keeps. Context
layer, transitions-up, heads and loss are lean as everywhere.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..lean import MemoryPlan, Workspace
from ..lean.examination import Examination
from ..lean.program import Program, run
from ..lean.stages import Stage, StemStage
from ..nn import ResNetFeatures
from .design import Design
from .encoder import Encoder, Layout, count_layers
from .segmentation_model import SegmentationModel

#: (blocks per stage, convolutions per block, [out, in] channels of the first block's 3x3) of torchvision's ResNets.
_RESNETS: dict[tuple[tuple[int, ...], int, tuple[int, ...]], str] = {
    ((2, 2, 2, 2), 2, (64, 64)): "resnet18",
    ((3, 4, 6, 3), 2, (64, 64)): "resnet34",
    ((3, 4, 6, 3), 3, (64, 64)): "resnet50",
    ((3, 4, 23, 3), 3, (64, 64)): "resnet101",
    ((3, 8, 36, 3), 3, (64, 64)): "resnet152",
    ((3, 4, 6, 3), 3, (128, 128)): "wide_resnet50_2",
    ((3, 4, 23, 3), 3, (128, 128)): "wide_resnet101_2",
    ((3, 4, 6, 3), 3, (128, 4)): "resnext50_32x4d",
    ((3, 4, 23, 3), 3, (256, 8)): "resnext101_32x8d",
}

_RESIDUAL_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
_CONVOLUTION = re.compile(r"layer1\.0\.conv\d\.weight")


@dataclass(frozen=True)
class ResNet50(Encoder[ResNetFeatures]):
    """A ResNet-50. Its stem is a lean program, torch runs the residual units, and a second program runs the rest."""

    features_class = ResNetFeatures
    layout = Layout("conv1.weight", ("fc.",), "")
    on_torch = "the residual units"

    @staticmethod
    def architectures() -> list[str]:
        return ["resnet50"]

    @staticmethod
    def recognise(state: Mapping[str, Tensor]) -> str | None:
        """Recognises any of torchvision's ResNets."""
        inner = state.get("layer1.0.conv2.weight")
        if inner is None:
            return None
        convolutions = sum(bool(_CONVOLUTION.fullmatch(name)) for name in state)
        return _RESNETS.get((count_layers(state, _RESIDUAL_BLOCK), convolutions, tuple(inner.shape[:2])))

    @property
    def architecture(self) -> str:
        return "resnet50"

    def build(self, in_channels: int, split_blocks: tuple[int, ...], dilated: bool) -> ResNetFeatures:
        """Builds the module, of which only the fourth block can be split."""
        if not set(split_blocks) <= {4}:
            raise ValueError(f"split_blocks must be empty or (4,) for a ResNet, got {split_blocks}")
        return ResNetFeatures(in_channels, bool(split_blocks), dilated)

    def examine(self, look: Examination, path: str, features: ResNetFeatures) -> None:
        look.itself(path, features, ResNetFeatures)
        look.stem(path, features, "conv1", "bn1", "relu", "maxpool")

    def stages(self, features: ResNetFeatures, skips: Mapping[str, Stage]) -> Iterator[Stage]:
        yield from skips.values()

    def run_on_torch(
        self, features: ResNetFeatures, images: Tensor, plan: MemoryPlan, workspace: Workspace | None
    ) -> dict[str, Tensor]:
        stage = StemStage(features.conv1, features.bn1, "images", "out", features.conv1.out_channels)
        return features.stages(run(Program([stage], ("images",), ("out",)), [images], plan, workspace)[0])


class _OnResNet(SegmentationModel):
    """A model on a ResNet-50; subclasses give its design."""

    design: Design

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
            self.design, num_classes, memory, in_channels=in_channels, weights=weights, frozen_bn=frozen_bn
        )


class LadderResNet(_OnResNet):
    """The ladder on a ResNet-50, which the paper calls LadderResNet-50 4x.

    As in the ladder DenseNet, the context layer is at 1/64 of the images' resolution; see nn.ResNetFeatures for the
    pooling that leads there. Skip connections are the outputs of the first three stages, and of the fourth up to that
    pooling.

    Args:
        num_classes: K, 1 to 256.
        memory: "lean", "plain", a budget such as "8GiB", or a MemoryPlan.
        in_channels: channels of the images.
        weights: None, a file with pretrained weights of a ResNet-50, or "imagenet".
        frozen_bn: every BatchNorm stays in inference mode while training.

    SegmentationModel describes the arguments and attributes in detail.

    Raises:
        ValueError: an argument is out of range, or the weights do not fit.
    """

    design = Design(ResNet50(), split_blocks=(4,))


class ResNet32x(_OnResNet):
    """A ResNet-50 without an upsampling path, which the paper calls ResNet-50 32x; see DenseNet32x.

    Args and Raises: as LadderResNet.
    """

    design = Design(ResNet50(), transitions_up=0, auxiliary=False)


class DilatedResNet(_OnResNet):
    """A ResNet-50 whose last two stages are dilated (rates 2 and 4), with one transition-up from 1/8 to 1/4.

    The paper calls it Dilated 8x ResNet-50 4x; see DilatedDenseNet.

    Args and Raises: as LadderResNet.
    """

    design = Design(ResNet50(), dilated=True, transitions_up=1)
