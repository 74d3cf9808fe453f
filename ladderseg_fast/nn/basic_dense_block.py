"""Dense block whose layers have no bottleneck, as in FC-DenseNet (Jégou et al., CVPR workshops 2017)."""

import torch
from torch import Tensor, nn


class BasicDenseLayer(nn.Module):
    """BN - ReLU - conv 3x3 to `growth_rate` channels - dropout of whole channels.

    The children have the names of pytorch_tiramisu's, so that its checkpoints load.
    """

    def __init__(self, in_channels: int, growth_rate: int, dropout: float = 0.2, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, growth_rate, 3, padding=1, bias=bias)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, growth_rate, H, W]."""
        return self.drop(self.conv(self.relu(self.norm(features))))


class BasicDenseBlock(nn.Module):
    """`layers` layers without bottleneck, each of which reads all channels before it.

    [N, C, H, W] -> [N, C + layers * growth_rate, H, W], or with `new_only` the channels that the layers add, without
    the input: [N, layers * growth_rate, H, W], as on FC-DenseNet's upsampling path.
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        growth_rate: int = 16,
        dropout: float = 0.2,
        bias: bool = True,
        new_only: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.new_only = new_only
        widths = (in_channels + i * growth_rate for i in range(layers))
        self.layers = nn.ModuleList(BasicDenseLayer(width, growth_rate, dropout, bias) for width in widths)

    def forward(self, features: Tensor) -> Tensor:
        """Runs all layers on `features` [N, C, H, W]."""
        for layer in self.layers:
            features = torch.cat([features, layer(features)], dim=1)
        return features[:, self.in_channels :] if self.new_only else features
