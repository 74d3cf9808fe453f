"""The fastest combination of options whose memory fits: dynamic programming over the sections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .choices import Option

#: Share of a step's time below which partial combinations count as equally fast: the one with the least memory stays.
RESOLUTION = 2e-4


@dataclass(frozen=True)
class Found:
    """An option for each section, and their seconds in all."""

    seconds: float
    options: dict[str, Option]


def fastest(options: Mapping[str, Sequence[Option]], limit: int, rest_peak: int, step_seconds: float) -> Found | None:
    """Returns the fastest combination of options, one per section, within `limit` bytes; None if none fits.

    Args:
        options: by section, in the order of the forward pass.
        rest_peak: most bytes in use outside the sections, besides what the sections keep.
        step_seconds: time of a step: the result is slower than the best by at most len(options) * RESOLUTION of it.

    Only the memory and the time of the sections so far matter. So each section in turn extends those combinations of
    the sections before it that no other combination beats in both.
    """
    kept, seconds = np.zeros(1, dtype=np.int64), np.zeros(1)
    trail: list[tuple[np.ndarray, np.ndarray]] = []
    for choices in options.values():
        added = np.array([option.kept for option in choices], dtype=np.int64)
        peaks = np.array([option.peak for option in choices], dtype=np.int64)
        times = np.array([option.seconds for option in choices])
        before, chosen = np.nonzero(kept[:, None] + peaks[None, :] <= limit)
        if not len(before):
            return None
        sums, totals = kept[before] + added[chosen], seconds[before] + times[chosen]
        best = _unbeaten(sums, totals, RESOLUTION * step_seconds)
        kept, seconds = sums[best], totals[best]
        trail.append((before[best], chosen[best]))
    fitting = np.nonzero(kept + rest_peak <= limit)[0]
    if not len(fitting):
        return None
    place = last = int(fitting[np.argmin(seconds[fitting])])
    found: dict[str, Option] = {}
    for (name, choices), (before, chosen) in zip(reversed(list(options.items())), reversed(trail)):
        found[name] = choices[chosen[place]]
        place = int(before[place])
    return Found(float(seconds[last]), dict(reversed(found.items())))


def least_memory(options: Mapping[str, Sequence[Option]], rest_peak: int) -> int:
    """Smallest limit for which `fastest` finds a combination."""
    low, high = 0, rest_peak + sum(max(o.kept + o.peak for o in choices) for choices in options.values())
    while high - low > 4096:
        middle = (low + high) // 2
        if fastest(options, middle, rest_peak, 0.0) is None:
            low = middle
        else:
            high = middle
    return high


def _unbeaten(kept: np.ndarray, seconds: np.ndarray, resolution: float) -> np.ndarray:
    """Indices of combinations that no other beats in memory and, by more than `resolution`, in time."""
    order = np.lexsort((seconds, kept))
    times = seconds[order]
    if resolution > 0.0:
        times = np.floor(times / resolution)
    least_before = np.minimum.accumulate(np.concatenate(([np.inf], times[:-1])))
    return order[times < least_before]
