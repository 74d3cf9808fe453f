"""Placing the maps of a step in one block of memory, when it is known which they are and how long each is in use."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

#: Improvements that a placement goes through from each first order.
_PROMOTIONS = 30

#: Shares of all from which maps are large.
_LARGE = (0.02, 0.01, 0.003)

#: A placement of so little more than what is in use at once is not improved further, as a share of that.
_GOOD_ENOUGH = 0.0005


@dataclass
class Recording:
    """Record of what one step takes, in order: sizes in bytes, and the time of use, counted in events."""

    sizes: list[int] = field(default_factory=list)
    spans: list[tuple[int, float]] = field(default_factory=list)
    clock: int = 0

    def take(self, size: int) -> int:
        """Note a map of `size` bytes; returns its number."""
        self.clock += 1
        self.sizes.append(size)
        self.spans.append((self.clock, float("inf")))
        return len(self.sizes) - 1

    def give_back(self, number: int) -> None:
        self.clock += 1
        self.spans[number] = (self.spans[number][0], self.clock)

    def most_in_use(self) -> int:
        """Bytes in use at once, at most."""
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
        """A placement that takes hardly more than what is in use at once; the best would be hard to find.

        Maps are placed one after the other, in some order. Of several orders the best is taken: most often that of
        time, forward or backward. Where it is not, finding an order for the large maps alone, which takes no time,
        helps."""
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
        """Maps that are in use at some time at which a map is, by its number."""
        alive: list[int] = []
        for i, (begin, _) in sorted(enumerate(recording.spans), key=lambda item: item[1][0]):
            alive = [other for other in alive if recording.spans[other][1] > begin]
            for other in alive:
                self._overlapping[i].append(other)
                self._overlapping[other].append(i)
            alive.append(i)

    def promoted(self, order: list[int], enough: float) -> tuple[Placement, list[int]]:
        """The best placement of this order, and of others that come of placing first those maps that reach the top.

        That gives them the low places for which others leave room. With the order of that placement; it stops at one of
        `enough` bytes.
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
        """Each map in turn at the lowest place that is free while it is in use."""
        sizes = self._sizes
        starts = [-1] * len(sizes)  # of those without a place
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
