"""Batch statistics of a map that is computed in strips."""

import torch
from torch import Tensor


class RunningStatistics:
    """Mean and biased variance [2, C] float64 of the positions seen so far, merged by Chan's formula."""

    def __init__(self) -> None:
        self._count = 0
        self._statistics: Tensor | None = None

    def add(self, count: int, statistics: Tensor) -> None:
        """Adds `count` positions with this mean and biased variance [2, C] float64."""
        before, self._count = self._count, self._count + count
        if self._statistics is None:
            self._statistics = statistics
            return
        share = count / self._count
        delta = statistics[0] - self._statistics[0]
        self._statistics = torch.lerp(self._statistics, statistics, share)
        self._statistics[1].addcmul_(delta, delta, value=share * before / self._count)

    def result(self) -> Tensor:
        """Mean and biased variance [2, C] float64 of everything added so far, at least one position."""
        assert self._statistics is not None
        return self._statistics
