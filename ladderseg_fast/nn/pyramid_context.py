"""Spatial pyramid pooling, an alternative to the context layer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PyramidContext(nn.Module):
    """Pyramid pooling: averages over grids of bins join the features (Zhao et al., CVPR 2017, section 3.2).

    Layers: BN - ReLU - conv 1x1 to `hidden_channels`; BN - ReLU; for each number of bins b average pooling to b x b,
    conv 1x1 to a quarter of the hidden channels, bilinear upsampling; concatenation of all levels to the hidden
    channels; BN - ReLU - conv 3x3 to `out_channels`.

    The paper only says that it is pyramid pooling as in PSPNet. The input is reduced first, as in the context layer.
    Batch norm comes before convolutions, as everywhere in a DenseNet: the norm of the concatenation normalises the
    levels, so that even a single bin of a single image has statistics. In training they turn that bin into 0, and the
    bins of two images into +-1, as in PSPNet: the coarsest level learns from larger batches or with frozen batch norm.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, in_channels: int, hidden_channels: int = 512, out_channels: int = 128) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden_channels)
        self.relu2 = nn.ReLU()
        level_channels = hidden_channels // len(self.BINS)
        for bins in self.BINS:
            self.add_module(f"level{bins}", nn.Conv2d(hidden_channels, level_channels, 1, bias=False))
        concatenated = hidden_channels + len(self.BINS) * level_channels
        self.norm3 = nn.BatchNorm2d(concatenated)
        self.relu3 = nn.ReLU()
        self.conv3 = nn.Conv2d(concatenated, out_channels, 3, padding=1, bias=False)

    @property
    def levels(self) -> list[nn.Conv2d]:
        """Convolutions of the levels, in the order of BINS."""
        return [getattr(self, f"level{bins}") for bins in self.BINS]

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, out_channels, H, W]."""
        hidden = self.conv1(self.relu1(self.norm1(features)))
        levels = pyramid_levels(self.relu2(self.norm2(hidden)), [level.weight for level in self.levels])
        return self.conv3(self.relu3(self.norm3(torch.cat([hidden, *levels], dim=1))))


def pyramid_levels(x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """Levels of x [N, C, H, W], each [N, D, H, W]; the weights of their 1x1 convolutions are in the order of BINS."""
    pooled = [F.adaptive_avg_pool2d(x, bins) for bins in PyramidContext.BINS]
    coarse = [F.conv2d(level, weight) for level, weight in zip(pooled, weights, strict=True)]
    return [F.interpolate(level, x.shape[2:], mode="bilinear", align_corners=False) for level in coarse]
