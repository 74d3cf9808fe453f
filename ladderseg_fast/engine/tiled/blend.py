"""Blending of the scores of neighbouring tiles."""

import torch
from torch import Tensor

from .grid import Seam


def fade(before: Tensor, after: Tensor, axis: int) -> Tensor:
    """Scores that go over from `before` to `after`, of the same shape, along the dimension `axis`.

    The weights of the two sum to one at every place. Where both are equal, the result is them, bit for bit.
    """
    count = before.shape[axis]
    weight = (torch.arange(count, device=before.device, dtype=torch.float64) + 0.5) / max(1, count)
    shape = [1] * before.dim()
    shape[axis] = count
    return torch.lerp(before, after, weight.to(before.dtype).reshape(shape))


class Band:
    """Scores [rows, w, K] of a row of tiles, over the whole width of the image, blended from left to right.

    Args:
        rows: the most rows that a row of tiles has.
        width: scores along the width of the image.
        seams: of the tiles along the width.
    """

    def __init__(self, rows: int, width: int, seams: list[Seam]) -> None:
        self._rows, self._width = rows, width
        self._seams = seams
        self._scores: Tensor | None = None

    def add(self, index: int, start: int, scores: Tensor) -> None:
        """Adds the `scores` [1, K, h, w] of the tile at `index` from the left, the first of which is at `start`."""
        new = scores[0].permute(1, 2, 0)
        if self._scores is None:
            self._scores = new.new_empty((self._rows, self._width, new.shape[2]))
        band = self._scores[: new.shape[0]]
        end = start + new.shape[1]
        if index < len(self._seams):
            end = self._seams[index].last
        alone = start
        if index > 0:
            seam = self._seams[index - 1]
            alone, blended = seam.last, slice(seam.first, seam.last)
            inside = new[:, seam.first - start : seam.last - start]
            band[:, blended] = fade(band[:, blended], inside, axis=1)
        band[:, alone:end] = new[:, alone - start : end - start]

    def rows(self, count: int) -> Tensor:
        """The first `count` rows [count, w, K]; they change with the next `add`."""
        assert self._scores is not None, "no tile has been added"
        return self._scores[:count]
