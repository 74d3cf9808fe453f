"""ResNets as encoders, and the models of the paper on them.

The ladder on a ResNet-18 is, apart from widths, what the paper's authors later called SwiftNet (Orsic et al., CVPR
2019).
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..lean import MemoryPlan
from ..lean.examination import Examination
from ..lean.stages import AveragePoolStage, ResidualStage, Stage, StemStage
from ..nn import RESNETS, BasicBlock, ResNetFeatures
from .design import Design
from .encoder import Encoder, Layout, count_layers
from .segmentation_model import SegmentationModel

#: (blocks per stage, convolutions per block, [out, in] channels of the first block's 3x3) of torchvision's ResNets.
_RESNETS: dict[tuple[tuple[int, ...], int, tuple[int, ...]], str] = {
    **{(shape.units, 2 if shape.unit is BasicBlock else 3, (64, 64)): name for name, shape in RESNETS.items()},
    ((3, 4, 6, 3), 3, (128, 128)): "wide_resnet50_2",
    ((3, 4, 23, 3), 3, (128, 128)): "wide_resnet101_2",
    ((3, 4, 6, 3), 3, (128, 4)): "resnext50_32x4d",
    ((3, 4, 23, 3), 3, (256, 8)): "resnext101_32x8d",
}

_RESIDUAL_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
_CONVOLUTION = re.compile(r"layer1\.0\.conv\d\.weight")


@dataclass(frozen=True)
class ResNet(Encoder[ResNetFeatures]):
    """A ResNet in nn.RESNETS."""

    backbone: str = "resnet50"

    features_class = ResNetFeatures
    layout = Layout("conv1.weight", ("fc.",), "")
    made_again = frozenset({"stem"})

    def __post_init__(self) -> None:
        if self.backbone not in RESNETS:
            raise ValueError(f"backbone must be one of {', '.join(RESNETS)}, got {self.backbone!r}")

    @staticmethod
    def architectures() -> list[str]:
        return list(RESNETS)

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
        return self.backbone

    def build(self, in_channels: int, split_blocks: tuple[int, ...], dilated: bool) -> ResNetFeatures:
        """Builds the module, of which only the fourth block can be split."""
        if not set(split_blocks) <= {4}:
            raise ValueError(f"split_blocks must be empty or (4,) for a ResNet, got {split_blocks}")
        return ResNetFeatures(RESNETS[self.backbone], in_channels, bool(split_blocks), dilated)

    def examine(self, look: Examination, path: str, features: ResNetFeatures) -> None:
        look.itself(path, features, ResNetFeatures)
        channels = look.stem(path, features, "conv1", "bn1", "relu", "maxpool")
        for name in ("layer1", "layer2", "layer3", "layer4"):
            reads, gives = look.residual_layer(f"{path}.{name}", getattr(features, name))
            look.same(f"{path}.{name}", "reads", reads, channels, "are there")
            channels = gives
        if features.split:
            look.average_pool(f"{path}.split_pool", features.split_pool)
        look.same(f"{path}.layer4", "gives", channels, list(features.channels.values())[-1], "it was made for")

    def stages(self, features: ResNetFeatures, skips: Mapping[str, Stage]) -> Iterator[Stage]:
        yield StemStage(features.conv1, features.bn1, "images", "stem", features.conv1.out_channels)
        before = "stem"
        for name, channels in features.channels.items():
            if name == "layer4b":
                yield AveragePoolStage(before, "pooled", channels)
                before = "pooled"
            yield ResidualStage(features.layer(name), before, name)
            if name in skips:
                yield skips[name]
            before = name


class _OnResNet(SegmentationModel):
    """A model whose only choice is the backbone; subclasses give its design with the default backbone."""

    design: Design

    def __init__(
        self,
        num_classes: int = 19,
        memory: str | int | MemoryPlan = "lean",
        *,
        backbone: str = "resnet50",
        in_channels: int = 3,
        weights: str | os.PathLike[str] | None = None,
        frozen_bn: bool = False,
    ) -> None:
        super().__init__(
            replace(self.design, encoder=ResNet(backbone)),
            num_classes,
            memory,
            in_channels=in_channels,
            weights=weights,
            frozen_bn=frozen_bn,
            options={"backbone": backbone},
        )


class LadderResNet(_OnResNet):
    """The ladder on a ResNet; that on a ResNet-50 is the paper's LadderResNet-50 4x.

    As in the ladder DenseNet, the context layer is at 1/64 of the images' resolution; see nn.ResNetFeatures for the
    pooling that leads there. Skip connections are the outputs of the first three stages, and of the fourth up to that
    pooling.

    Args:
        num_classes: K, 1 to 256.
        memory: "lean", "plain", a budget such as "8GiB", or a MemoryPlan.
        backbone: "resnet18", "resnet34", "resnet50", "resnet101" or "resnet152".
        in_channels: channels of the images.
        weights: None, a file with pretrained weights of the backbone, or "imagenet".
        frozen_bn: every BatchNorm stays in inference mode while training.

    SegmentationModel describes the arguments and attributes in detail.

    Raises:
        ValueError: an argument is out of range, or the weights do not fit.
    """

    design = Design(ResNet(), split_blocks=(4,))


class ResNet32x(_OnResNet):
    """A ResNet without an upsampling path; on a ResNet-50 the paper's ResNet-50 32x. See DenseNet32x.

    Args and Raises: as LadderResNet.
    """

    design = Design(ResNet(), transitions_up=0, auxiliary=False)


class DilatedResNet(_OnResNet):
    """A ResNet whose last two stages are dilated (rates 2 and 4), with one transition-up from 1/8 to 1/4.

    On a ResNet-50 it is the paper's Dilated 8x ResNet-50 4x; see DilatedDenseNet. ResNet-18 and -34 have basic blocks,
    which cannot be dilated.

    Args and Raises: as LadderResNet.
    """

    design = Design(ResNet(), dilated=True, transitions_up=1)
