"""Helpers that all pictures of a training's numbers share, whatever they are drawn with."""

import math
from collections.abc import Sequence
from itertools import accumulate

#: Values that a moving average takes together, as a share of all.
_SMOOTHING = 0.05
_LEAST_WINDOW = 4


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most about `most`: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    spacing = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    if whole:
        spacing = max(1.0, spacing)
    first, last = math.ceil(low / spacing - 1e-9), math.floor(high / spacing + 1e-9)
    return [round(i * spacing, 10) for i in range(first, last + 1)]


def loss_limit(losses: Sequence[float]) -> float:
    """Upper end of an axis that starts at zero: a little above the highest loss, with a spike at the start cut off."""
    settled = max(losses[len(losses) // 20 :])
    return 1.08 * min(max(losses), 2.0 * settled) or 1.0


def moving_average(values: Sequence[float]) -> list[float]:
    """Means of each value with the values before it, as many as the window holds."""
    window = max(_LEAST_WINDOW, round(_SMOOTHING * len(values)))
    sums = list(accumulate(values, initial=0.0))
    starts = (max(0, end - window) for end in range(1, len(sums)))
    return [(sums[end] - sums[start]) / (end - start) for end, start in enumerate(starts, start=1)]
