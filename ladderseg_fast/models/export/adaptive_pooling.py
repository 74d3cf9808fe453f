"""Averages over a grid of bins, for maps whose size is not known when the graph is made."""

from collections.abc import Sequence

import torch
from torch import Tensor


def average_bins(x: Tensor, bins: int | Sequence[int]) -> Tensor:
    """Averages x [N, C, H, W] over a grid of `bins`, (rows, columns) or one number; adaptive_avg_pool2d's definition.

    Bin i of b along a side of L pixels covers those from floor(i L / b) up to ceil((i + 1) L / b), exclusive. The
    average is the product with a matrix of the bins' shares from the left, and with another one from the right.
    """
    rows, columns = (bins, bins) if isinstance(bins, int) else bins
    return _shares(x, 2, rows) @ x @ _shares(x, 3, columns).t()


def _shares(x: Tensor, side: int, bins: int) -> Tensor:
    """Matrix [bins, L] of each pixel's share in the average of each bin, along side `side` of x, of L pixels."""
    pixels = x.shape[side]
    numbers = torch.arange(bins, device=x.device)[:, None]
    begin = torch.div(numbers * pixels, bins, rounding_mode="floor")
    end = torch.div((numbers + 1) * pixels + bins - 1, bins, rounding_mode="floor")
    positions = torch.arange(pixels, device=x.device)
    inside = ((positions >= begin) & (positions < end)).to(x.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
