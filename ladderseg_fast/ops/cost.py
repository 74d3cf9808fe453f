"""Cost of a call of a kernel, for the planner and the benchmarks."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """Cost of one call of a kernel.

    kind: kind of the operations, one of those that memory.Rates has a rate for; None if they do not matter. operations:
    multiplications and additions of products; for the loss, the equivalent of its exponentials. bytes: bytes of all its
    maps and weights, each counted once. result: bytes of the map that it writes to `out`, with the room between its
    pixels; else 0. channels: channels of `x` that it reads; else 0.
    """

    kind: str | None
    operations: float
    bytes: int
    result: int = 0
    channels: int = 0


def pixels(x: Tensor) -> int:
    """Number of pixels N * H * W of x [N, C, H, W]."""
    n, _, h, w = x.shape
    return n * h * w
