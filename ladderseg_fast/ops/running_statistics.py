"""Batch statistics of a map that is made in strips."""

import torch
from torch import Tensor


class RunningStatistics:
    """Mean and variance [C] of the positions seen so far, merged by Chan's formula in float64."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self._count = 0
        self._mean = torch.zeros(channels, dtype=torch.float64, device=device)
        self._deviation = torch.zeros_like(self._mean)  # sum of (x - mean)^2

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """`count` more positions with this mean and biased variance [C] float64."""
        delta = mean - self._mean
        share = count / (self._count + count)
        self._mean = self._mean + delta * share
        self._deviation = self._deviation + variance * count + delta.square() * (self._count * share)
        self._count += count

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [C] float64."""
        return self._mean, self._deviation / self._count
