"""Rows of an image's results from rows of scores, as both go down the image."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .result_rows import ResultRows

#: Numbers of the scores that are interpolated between rows at a time.
_CHUNK_VALUES = 2**21


class UpsampledRows:
    """Results of the rows of an image whose scores arrive from top to bottom.

    The scores are upsampled bilinearly to the image's size, as model.predict does. The positions are those of the whole
    image: row y is at (y + 1/2) h / H - 1/2 of the h rows of scores.

    Args:
        size: (H, W) of the image.
        rows: h.
        start: number of rows whose results are there already.
    """

    def __init__(self, size: tuple[int, int], rows: int, start: int = 0) -> None:
        self._size, self._rows = size, rows
        self._next = start
        self._kept: Tensor | None = None
        self._first = 0

    def needs(self, row: int) -> int:
        """The first row of scores that row `row` of the image depends on."""
        return self._places(np.array([row]))[0][0].item()

    def add(self, first: int, scores: Tensor) -> Iterator[ResultRows]:
        """Takes `scores` [rows, w, K], whose first row is row `first` of all, and yields what rows they complete.

        Rows follow each other from top to bottom, without gaps.
        """
        if self._kept is not None:
            assert first == self._first + len(self._kept), "rows of scores must follow each other"
            first, scores = self._first, torch.cat([self._kept, scores])
        end = self._complete(first + len(scores))
        chunk = max(1, _CHUNK_VALUES // (scores.shape[1] * scores.shape[2]))
        while self._next < end:
            stop = min(end, self._next + chunk)
            yield self._between(first, scores, self._next, stop)
            self._next = stop
        if end < self._size[0]:
            keep = max(0, self.needs(end) - first)
            self._first, self._kept = first + keep, scores[keep:].clone()

    def _complete(self, known: int) -> int:
        """Number of the image's rows that need no more than the first `known` rows of scores."""
        height = self._size[0]
        if known >= self._rows:
            return height
        end = min(height, (known + 1) * height // self._rows)
        while end > self._next and self._places(np.array([end - 1]))[1][0] >= known:
            end -= 1
        return end

    def _between(self, first: int, scores: Tensor, start: int, stop: int) -> ResultRows:
        upper, lower, share = self._places(np.arange(start, stop))
        device = scores.device
        above, below = (scores[torch.from_numpy(rows - first).to(device)] for rows in (upper, lower))
        weight = torch.from_numpy(share).to(device, scores.dtype)[:, None, None]
        between = torch.lerp(above, below, weight).permute(2, 0, 1)[None]
        return ResultRows(start, between, self._size[1])

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of scores above and below rows of the image, and the shares of those below."""
        source = ((rows + 0.5) * (self._rows / self._size[0]) - 0.5).clip(0, self._rows - 1)
        upper = source.astype(np.int64)
        return upper, np.minimum(upper + 1, self._rows - 1), source - upper
