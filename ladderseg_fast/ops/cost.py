"""Costs of calls of kernels, for the planner and the benchmarks."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """Operations and bytes of one call of a kernel.

    kind: of the operations, one of those that memory.Rates has a rate for; None where there are none to speak of.
    operations: multiplications and additions of products; of the loss, its exponentials as so many.
    bytes: of all its maps and weights, each once.
    result: bytes of the map that it writes to `out`, with the room between its pixels; else 0.
    channels: that it reads of `x`; else 0.
    """

    kind: str | None
    operations: float
    bytes: int
    result: int = 0
    channels: int = 0


def pixels(x: Tensor) -> int:
    """N * H * W of x [N, C, H, W]."""
    n, _, h, w = x.shape
    return n * h * w
