"""Cost of a kernel call, for the planner and the benchmarks."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """Cost of one kernel call.

    kind: kind of the operations, one for which memory.Rates has a rate; None if they do not matter. operations:
    multiplications and additions of products; for the loss, the equivalent of its exponentials. bytes: bytes of all
    maps and weights, each counted once. result: bytes of the map written to `out`, with the room between its pixels;
    otherwise 0. channels: channels of `x` that it reads; otherwise 0.
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
