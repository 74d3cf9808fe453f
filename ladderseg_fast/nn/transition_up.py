"""Transition-up: blends upsampled coarse features with a projected skip connection."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TransitionUp(nn.Module):
    """Upsample - project - concatenate - BN - ReLU - conv 3x3 (Figure 1 of the paper).

    `coarse` is upsampled bilinearly (half-pixel centres) to the size of `skip`; BN - ReLU - conv 1x1 projects `skip` to
    `skip_channels`; BN - ReLU - conv 3x3 blends their concatenation [coarse, skip] to `out_channels`.
    """

    def __init__(self, coarse_channels: int, skip_in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.skip_norm = nn.BatchNorm2d(skip_in_channels)
        self.skip_relu = nn.ReLU()
        self.skip_conv = nn.Conv2d(skip_in_channels, skip_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(coarse_channels + skip_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(coarse_channels + skip_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Blends coarse [N, C, h, w] and skip [N, S, H, W] to [N, out_channels, H, W]."""
        upsampled = F.interpolate(coarse, skip.shape[2:], mode="bilinear", align_corners=False)
        projected = self.skip_conv(self.skip_relu(self.skip_norm(skip)))
        return self.conv(self.relu(self.norm(torch.cat([upsampled, projected], dim=1))))
