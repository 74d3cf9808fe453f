"""The DenseNet feature extractor that the ladder's downsampling path runs on."""

from collections.abc import Sequence

from torch import Tensor, nn

from .dense_block import DenseBlock
from .transition import Transition

#: Layers per dense block (Huang et al., CVPR 2017, Table 1).
BLOCK_LAYERS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}


class DenseNetFeatures(nn.Module):
    """Stem, four dense blocks, three transitions; child names are torchvision's `features.*`.

    There is no final norm: whoever reads the last block normalises for itself.
    """

    def __init__(self, block_layers: Sequence[int], stem_channels: int = 64, growth_rate: int = 32) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, stem_channels, 7, stride=2, padding=3, bias=False)
        self.norm0 = nn.BatchNorm2d(stem_channels)
        self.relu0 = nn.ReLU()
        self.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        channels = stem_channels
        for i, layers in enumerate(block_layers, start=1):
            block = DenseBlock(channels, layers, growth_rate)
            self.add_module(f"denseblock{i}", block)
            channels = block.out_channels
            if i < len(block_layers):
                self.add_module(f"transition{i}", Transition(channels, channels // 2))
                channels //= 2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def stem(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, stem_channels, ceil(ceil(H / 2) / 2), ceil(ceil(W / 2) / 2)]."""
        return self.pool0(self.relu0(self.norm0(self.conv0(images))))
