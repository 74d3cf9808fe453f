"""DenseNet feature extractor of the downsampling path."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch.nn as nn
from torch import Tensor

from .dense_block import DenseBlock
from .features import Features
from .transition import Transition


@dataclass(frozen=True)
class DenseNetShape:
    """Numbers in which DenseNets differ."""

    block_layers: tuple[int, int, int, int]
    stem_channels: int = 64
    growth_rate: int = 32


#: Shapes from Huang et al., CVPR 2017, Table 1; DenseNet-161 is the authors' wider model, with growth rate 48.
DENSENETS = {
    "densenet121": DenseNetShape((6, 12, 24, 16)),
    "densenet161": DenseNetShape((6, 12, 36, 24), stem_channels=96, growth_rate=48),
    "densenet169": DenseNetShape((6, 12, 32, 32)),
    "densenet201": DenseNetShape((6, 12, 48, 32)),
}

#: Dilation rates of the last two dense blocks if these stay at 1/8 of the images' resolution.
DILATION_RATES = {3: 2, 4: 4}


@dataclass(frozen=True)
class Section:
    """Dense layers [start, stop) of dense block `block`, all at one resolution: the whole block, or half of it."""

    name: str
    """"db2"; the halves of a split block are "db4a" and "db4b"."""
    block: int
    """1 to 4."""
    start: int
    stop: int
    channels: int
    """Channels of its output: the ones that it reads and the ones that it adds."""


class DenseNetFeatures(Features):
    """Stem, four dense blocks, three transitions; child names are torchvision's `features.*`.

    There is no final norm: the reader of the last block normalises it.

    Args:
        block_layers: dense layers in each block.
        stem_channels: channels of the first convolution.
        growth_rate: channels that a dense layer adds.
        in_channels: channels of the images.
        split_blocks: numbers of the blocks (1 to 4) that an average pooling splits into two halves.
        dilated: the last two blocks are dilated (rates 2 and 4) and have no pooling before them.

    Attributes:
        sections: the dense blocks and halves of blocks, in the order of the forward pass.
        stride: side of the square of image pixels that one pixel of the last section stands for.

    Raises:
        ValueError: a block to split has a single layer.
    """

    def __init__(
        self,
        block_layers: Sequence[int],
        stem_channels: int = 64,
        growth_rate: int = 32,
        in_channels: int = 3,
        split_blocks: Collection[int] = (),
        dilated: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dilated = dilated
        self.conv0 = nn.Conv2d(in_channels, stem_channels, 7, stride=2, padding=3, bias=False)
        self.norm0 = nn.BatchNorm2d(stem_channels)
        self.relu0 = nn.ReLU()
        self.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        self.sections: list[Section] = []
        channels = stem_channels
        for i, layers in enumerate(block_layers, start=1):
            dilation = DILATION_RATES.get(i, 1) if dilated else 1
            block = DenseBlock(channels, layers, growth_rate, dilation=dilation)
            self.add_module(f"denseblock{i}", block)
            self.sections += _sections(i, block, i in split_blocks)
            channels = block.out_channels
            if i < len(block_layers):
                pooled = not (dilated and i + 1 in DILATION_RATES)
                self.add_module(f"transition{i}", Transition(channels, channels // 2, pooled))
                channels //= 2
        self.channels = {section.name: section.channels for section in self.sections}
        self.split_pool = nn.AvgPool2d(2)
        halvings = 2 + len(block_layers) - 1 + len(split_blocks) - (len(DILATION_RATES) if dilated else 0)
        self.stride = 1 << halvings
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def block(self, section: Section) -> DenseBlock:
        """Dense block to which `section` belongs."""
        return getattr(self, f"denseblock{section.block}")

    def transition(self, section: Section) -> Transition:
        """Transition at the start of a section that is neither the first nor a second half."""
        return getattr(self, f"transition{section.block - 1}")

    def stem(self, images: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, stem_channels, ceil(ceil(H / 2) / 2), ceil(ceil(W / 2) / 2)]."""
        return self.pool0(self.relu0(self.norm0(self.conv0(images))))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Output of each section by its name; [N, in_channels, H, W] -> [N, channels[name], h, w]."""
        maps: dict[str, Tensor] = {}
        x = images
        for section in self.sections:
            if not maps:
                x = self.stem(x)
            elif section.start > 0:
                x = self.split_pool(x)
            else:
                x = self.transition(section)(x)
            x = maps[section.name] = self.block(section)(x, section.start, section.stop)
        return maps


def _sections(number: int, block: DenseBlock, split: bool) -> list[Section]:
    layers = len(block.layers)
    if not split:
        return [Section(f"db{number}", number, 0, layers, block.out_channels)]
    half = layers // 2
    if half == 0:
        raise ValueError(f"dense block {number} has one layer and cannot be split")
    middle = block.in_channels + half * block.growth_rate
    return [
        Section(f"db{number}a", number, 0, half, middle),
        Section(f"db{number}b", number, half, layers, block.out_channels),
    ]
