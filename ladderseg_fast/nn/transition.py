"""Transition down between dense blocks: half the channels, usually at half the resolution."""

from torch import Tensor, nn


class Transition(nn.Module):
    """BN - ReLU - conv 1x1 - average pooling 2x2; [N, C, H, W] -> [N, out_channels, H // 2, W // 2].

    Without `pooled` the resolution stays: a dilated dense block follows.
    """

    def __init__(self, in_channels: int, out_channels: int, pooled: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2) if pooled else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.pool(self.conv(self.relu(self.norm(features))))
