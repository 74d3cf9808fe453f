"""Prediction head: class scores from features."""

from torch import Tensor, nn


class Head(nn.Module):
    """BN - ReLU - conv 1x1 with bias; [N, in_channels, H, W] -> class scores [N, num_classes, H, W]."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(self.relu(self.norm(features)))
