"""Dense block: every layer reads all earlier features and adds `growth_rate` channels to them."""

from typing import cast

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """BN - ReLU - conv 1x1 to `bottleneck` channels - BN - ReLU - conv 3x3 to `growth_rate` channels.

    The children have torchvision's names, so that its checkpoints load.
    """

    def __init__(self, in_channels: int, growth_rate: int, bottleneck: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, bottleneck, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(bottleneck, growth_rate, 3, padding=dilation, dilation=dilation, bias=False)

    def bottleneck(self, features: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, bottleneck, H, W]: the part that the lean step recomputes."""
        return self.conv1(self.relu1(self.norm1(features)))

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, growth_rate, H, W]."""
        return self.conv2(self.relu2(self.norm2(self.bottleneck(features))))


class DenseBlock(nn.Module):
    """`layers` dense layers; [N, C, H, W] -> [N, C + layers * growth_rate, H, W].

    The children are named `denselayer1`, `denselayer2`, ... as in torchvision. A block can run in parts (`start`,
    `stop`): the ladder splits the fourth block into two halves with a pooling between them. `dilation` applies to the
    3x3 convolutions.
    """

    def __init__(
        self, in_channels: int, layers: int, growth_rate: int = 32, bottleneck_width: int = 4, dilation: int = 1
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.growth_rate = growth_rate
        for i in range(layers):
            width = in_channels + i * growth_rate
            layer = DenseLayer(width, growth_rate, bottleneck_width * growth_rate, dilation)
            self.add_module(f"denselayer{i + 1}", layer)

    @property
    def layers(self) -> list[DenseLayer]:
        """Dense layers in the order of the forward pass."""
        return cast(list[DenseLayer], list(self.children()))

    @property
    def out_channels(self) -> int:
        """Channels of the output: the input's, and those that all layers add."""
        return self.in_channels + len(self.layers) * self.growth_rate

    def forward(self, features: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Runs layers `start` up to `stop` (exclusive; None: the last) on `features` [N, C, H, W]."""
        for layer in self.layers[start:stop]:
            features = torch.cat([features, layer(features)], dim=1)
        return features
