"""DenseNets as encoders, and the paper's models on them."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..lean import MemoryPlan
from ..lean.examination import Examination
from ..lean.sections import transition_stage
from ..lean.stages import AveragePoolStage, CopyStage, DenseBlockStage, Stage, StemStage
from ..nn import DENSENETS, DenseBlock, DenseNetFeatures, Section, Transition
from .design import Design
from .encoder import Encoder, Layout, count_layers
from .segmentation_model import SegmentationModel

#: A dense layer's norm or convolution in the checkpoints of 2017, when names of modules could have dots.
_OLD_DENSE_LAYER = re.compile(r"(.*\bdenselayer\d+\.(?:norm|conv))\.([12]\..*)")

_DENSE_LAYER = re.compile(r"(?:features\.)?denseblock(\d+)\.denselayer(\d+)\.")


def _modern_name(name: str) -> str:
    return _OLD_DENSE_LAYER.sub(r"\1\2", name)


@dataclass(frozen=True)
class DenseNet(Encoder[DenseNetFeatures]):
    """A DenseNet in nn.DENSENETS; in lean steps the encoder and everything after it are one program."""

    backbone: str = "densenet121"

    features_class = DenseNetFeatures
    layout = Layout("conv0.weight", ("classifier.", "norm5."), "features.", _modern_name)

    def __post_init__(self) -> None:
        if self.backbone not in DENSENETS:
            raise ValueError(f"backbone must be one of {', '.join(DENSENETS)}, got {self.backbone!r}")

    @staticmethod
    def architectures() -> list[str]:
        return list(DENSENETS)

    @staticmethod
    def recognise(state: Mapping[str, Tensor]) -> str | None:
        stem = state.get("conv0.weight", state.get("features.conv0.weight"))
        if stem is None:
            return None
        found = stem.shape[0], count_layers(state, _DENSE_LAYER)
        names = (name for name, shape in DENSENETS.items() if found == (shape.stem_channels, shape.block_layers))
        return next(names, None)

    @property
    def architecture(self) -> str:
        return self.backbone

    def build(self, in_channels: int, split_blocks: tuple[int, ...], dilated: bool) -> DenseNetFeatures:
        shape = DENSENETS[self.backbone]
        return DenseNetFeatures(
            shape.block_layers, shape.stem_channels, shape.growth_rate, in_channels, split_blocks, dilated
        )

    def examine(self, look: Examination, path: str, features: DenseNetFeatures) -> None:
        look.itself(path, features, DenseNetFeatures)
        channels = look.stem(path, features, "conv0", "norm0", "relu0", "pool0")
        for section in features.sections:
            block = f"{path}.denseblock{section.block}"
            if section.start > 0:
                look.average_pool(f"{path}.split_pool", features.split_pool)
            else:
                if section.block > 1:
                    name = f"{path}.transition{section.block - 1}"
                    reads, writes = look.section(name, features.transition(section), Transition)
                    look.same(name, "reads", reads, channels, "are there")
                    channels = writes
                look.itself(block, features.block(section), DenseBlock)
            channels = look.layers(block, features.block(section), channels, section.start, section.stop)
            look.same(block, "gives", channels, section.channels, "it was made for")

    def stages(self, features: DenseNetFeatures, skips: Mapping[str, Stage]) -> Iterator[Stage]:
        before = None
        for section in features.sections:
            yield from _entry_stages(features, section, before)
            yield DenseBlockStage(features.block(section), section.name, section.start, section.stop)
            if section.name in skips:
                yield skips[section.name]
            before = section.name


def _entry_stages(features: DenseNetFeatures, section: Section, before: str | None) -> Iterator[Stage]:
    """Stages that fill the first channels of the section's buffer from the section `before`, or from the images."""
    name, channels = section.name, section.channels
    if before is None:
        yield StemStage(features.conv0, features.norm0, "images", name, channels)
    elif section.start > 0:
        yield AveragePoolStage(before, name, channels)
    else:
        between = f"transition{section.block - 1}"
        yield transition_stage(features.transition(section), before, between)
        yield CopyStage(between, name, channels)


class LadderDenseNet(SegmentationModel):
    """Ladder-style DenseNet for semantic segmentation (Kreso, Krapac, Segvic, ICCV workshops 2017, Figure 1).

    An average pooling splits the fourth block of a DenseNet in two halves. A context layer follows at 1/64 of the
    images' resolution, then a transition-up of 128 channels for each dense block and first half, the coarsest first.
    Scores are at 1/4, auxiliary scores at 1/64.

    Args:
        backbone: "densenet121", "densenet161", "densenet169" or "densenet201".
        num_classes: K, 1 to 256.
        memory: "lean", "plain", a budget such as "8GiB", or a MemoryPlan.
        in_channels: channels of the images.
        weights: None, a file with pretrained weights of the backbone, or "imagenet".
        frozen_bn: every BatchNorm stays in inference mode while training.
        context: "dilated", or "pyramid" for spatial pyramid pooling instead of the context layer.
        auxiliary: whether there is a head for the auxiliary loss.
        split_blocks: dense blocks that an average pooling splits in two halves. With (3, 4) the context layer is at
            1/128, and there are five transitions-up. The split is in the middle; the paper leaves its place open.

    SegmentationModel describes the arguments and attributes in detail.

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
        design = Design(DenseNet(backbone), tuple(split_blocks), context=context, auxiliary=auxiliary)
        super().__init__(
            design,
            num_classes,
            memory,
            in_channels=in_channels,
            weights=weights,
            frozen_bn=frozen_bn,
            options={
                "backbone": backbone,
                "context": context,
                "auxiliary": auxiliary,
                "split_blocks": list(split_blocks),
            },
        )


class _Baseline(SegmentationModel):
    """A model whose only choice is the backbone; subclasses give its design with the default backbone."""

    design: Design

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
            replace(self.design, encoder=DenseNet(backbone)),
            num_classes,
            memory,
            in_channels=in_channels,
            weights=weights,
            frozen_bn=frozen_bn,
            options={"backbone": backbone},
        )


class DenseNet32x(_Baseline):
    """A DenseNet without an upsampling path: scores from the context output at 1/32 of the images' resolution.

    The paper calls this baseline DenseNet-121 32x. It has the ladder's context layer, and its fourth block is not
    split. An auxiliary head would repeat the head, so there is none.

    Args and Raises: as LadderDenseNet.
    """

    design = Design(DenseNet(), transitions_up=0, auxiliary=False)


class DilatedDenseNet(_Baseline):
    """A DenseNet that stays at 1/8 of the images' resolution, and one transition-up to 1/4.

    The paper calls this baseline Dilated 8x DenseNet-121 4x. Its last two dense blocks are dilated (rates 2 and 4) and
    have no pooling before them. The skip connection comes from the first block. The paper leaves the context layer and
    the losses open: we use the ladder's, with auxiliary scores at 1/8.

    Args and Raises: as LadderDenseNet.
    """

    design = Design(DenseNet(), dilated=True, transitions_up=1)
