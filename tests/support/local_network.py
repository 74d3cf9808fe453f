"""A network whose scores depend on few pixels, for tests of tiles."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn


class LocalNetwork(nn.Module):
    """Scores [N, classes, h/4, w/4] of images: each depends on pixels at most 13 away from those it stands for.

    With `whole`, the images' means are added, which depend on all pixels.
    """

    min_size, in_channels = 32, 3
    #: Pixels on either side of a score's four that matter: 3 of the first convolution, then 2, then 4 twice.
    RADIUS = 13

    def __init__(self, classes: int = 7, whole: bool = False, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.whole = whole
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, classes, 3, padding=1),
        ).to(dtype)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> SimpleNamespace:
        self.shapes.append(tuple(images.shape[2:]))
        logits = self.layers(images)
        if self.whole:
            logits = logits + images.mean() * torch.arange(logits.shape[1])[:, None, None]
        return SimpleNamespace(logits=logits)
