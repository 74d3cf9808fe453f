"""Places the maps of a step in one block of memory, once the size and the time of use of each map are known."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

#: Attempts to improve the placement of each initial order.
_PROMOTIONS = 30

#: Shares of the memory in use at once above which a map counts as large.
_LARGE = (0.02, 0.01, 0.003)

#: Excess over the memory in use at once, as a share of it, that a placement may have without further improvement.
_GOOD_ENOUGH = 0.0005


@dataclass
class Recording:
    """Maps that one step takes, in order: sizes in bytes, and times of use, counted in events."""

    sizes: list[int] = field(default_factory=list)
    spans: list[tuple[int, float]] = field(default_factory=list)
    clock: int = 0

    def take(self, size: int) -> int:
        """Records a map of `size` bytes and returns its number."""
        self.clock += 1
        self.sizes.append(size)
        self.spans.append((self.clock, float("inf")))
        return len(self.sizes) - 1

    def give_back(self, number: int) -> None:
        self.clock += 1
        self.spans[number] = (self.spans[number][0], self.clock)

    def most_in_use(self) -> int:
        """Most bytes in use at once."""
        events: list[tuple[float, int]] = [(start, size) for (start, _), size in zip(self.spans, self.sizes)]
        events += [(end, -size) for (_, end), size in zip(self.spans, self.sizes)]
        return max(accumulate(change for _, change in sorted(events)), default=0)


@dataclass(frozen=True)
class Placement:
    """Start of each map of a step in a block of `size` bytes."""

    sizes: list[int]
    starts: list[int]
    size: int

    @staticmethod
    def of(recording: Recording) -> "Placement":
        """Finds a placement that takes hardly more than what is in use at once; the optimum would be hard to find.

        Maps are placed one after the other. Several orders are tried; the order of time, forward or backward, usually
        wins. If it does not, an order found for the large maps alone, which takes no time, helps."""
        spans = recording.spans
        everything = range(len(spans))
        enough = recording.most_in_use() * (1 + _GOOD_ENOUGH)
        placer = _Placer(recording)

        def by_time(i: int) -> float:
            return spans[i][0]

        def by_end(i: int) -> float:
            return -spans[i][1]

        def by_length(i: int) -> float:
            return spans[i][0] - min(spans[i][1], recording.clock)

        def first_orders() -> Iterator[list[int]]:
            for key in (by_time, by_end, by_length):
                yield sorted(everything, key=key)
            for share in _LARGE:
                large = [i for i in everything if recording.sizes[i] >= share * enough]
                small = set(everything).difference(large)
                for key in (by_time, by_end, by_length):
                    _, order = placer.promoted(sorted(large, key=key), 0.0)
                    for rest in (by_time, by_end):
                        yield order + sorted(small, key=rest)

        best: Placement | None = None
        for order in first_orders():
            placement, _ = placer.promoted(order, enough)
            if best is None or placement.size < best.size:
                best = placement
            if best.size <= enough:
                break
        assert best is not None
        return best


class _Placer:
    """Places the maps of a recording."""

    def __init__(self, recording: Recording) -> None:
        self._sizes = recording.sizes
        self._overlapping: list[list[int]] = [[] for _ in recording.sizes]
        """Maps whose time of use overlaps that of a map, by its number."""
        alive: list[int] = []
        for i, (begin, _) in sorted(enumerate(recording.spans), key=lambda item: item[1][0]):
            alive = [other for other in alive if recording.spans[other][1] > begin]
            for other in alive:
                self._overlapping[i].append(other)
                self._overlapping[other].append(i)
            alive.append(i)

    def promoted(self, order: list[int], enough: float) -> tuple[Placement, list[int]]:
        """Returns the best placement found from this order, and the order that gives it.

        Each attempt places the maps that reached the top first, so that they get low places. A placement of `enough`
        bytes ends the search.
        """
        placement = self._in_order(order)
        best = placement, order
        for _ in range(_PROMOTIONS - 1):
            if placement.size <= enough:
                break
            at_top = {i for i in order if placement.starts[i] + placement.sizes[i] == placement.size}
            order = sorted(order, key=lambda i: i not in at_top)
            placement = self._in_order(order)
            if placement.size < best[0].size:
                best = placement, order
        return best

    def _in_order(self, order: list[int]) -> Placement:
        """Places each map in turn at the lowest place that is free while the map is in use."""
        sizes = self._sizes
        starts = [-1] * len(sizes)  # -1: not placed yet
        top = 0
        for i in order:
            taken = sorted((starts[j], starts[j] + sizes[j]) for j in self._overlapping[i] if starts[j] >= 0)
            start = 0
            for low, high in taken:
                if start + sizes[i] <= low:
                    break
                start = max(start, high)
            starts[i] = start
            top = max(top, start + sizes[i])
        return Placement(list(sizes), [max(0, start) for start in starts], top)
