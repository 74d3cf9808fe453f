"""Input of an exported model: pixels as files have them, or normalised images."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pixels:
    """Whole numbers from 0 to `largest`, of which the exported model computes (pixels / largest - mean) / std.

    They are uint8, or uint16 if `largest` is above 255.

    Raises:
        ValueError: mean and std differ in length, a number is not finite, a deviation is not positive, or `largest` is
            not from 1 to 65535.
    """

    mean: tuple[float, ...]
    """Mean of each channel, in the unit of `largest`."""
    std: tuple[float, ...]
    """Standard deviation of each channel, likewise."""
    largest: int = 255

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must be as long as each other, got {len(self.mean)} and {len(self.std)}")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise ValueError(f"mean and std must be finite, got {self.mean} and {self.std}")
        if not all(value > 0.0 for value in self.std):
            raise ValueError(f"std must be positive, got {self.std}")
        if not 1 <= self.largest <= 65535:
            raise ValueError(f"largest must be from 1 to 65535, got {self.largest}")

    @property
    def dtype(self) -> torch.dtype:
        """Type of the pixels."""
        return torch.uint8 if self.largest <= 255 else torch.uint16

    def random(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Pixels of this `shape` [N, C, H, W]."""
        return torch.randint(0, self.largest + 1, shape, generator=generator).to(self.dtype)


class Normalise(nn.Module):
    """Normalises pixels [N, C, H, W] to float32, with the very operations that the data sets of this package use."""

    scale: Tensor
    shift: Tensor

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        std = np.asarray(pixels.std, np.float32)
        scale, shift = 1.0 / (float(pixels.largest) * std), np.asarray(pixels.mean, np.float32) / std
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32))[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() * self.scale - self.shift
