"""Placing the maps of a step in one block of memory, when it is known which they are and how long each is in use."""

from dataclasses import dataclass, field
from itertools import accumulate

#: Improvements that a plan goes through from each first order, for few maps and for many: the time that one takes grows
#: with the square of their number, from a millisecond for two hundred.
_MOST_PROMOTIONS, _PROMOTIONS_TIMES_MAPS = 20, 5_000

#: Shares of all from which maps are large.
_LARGE = (0.02, 0.01, 0.0)

#: A plan of so little more than what is in use at once is not improved further, as a share of that.
_GOOD_ENOUGH = 0.002


@dataclass
class Recording:
    """What one step takes, in order: sizes in bytes, and the time of use, counted in events."""

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
        events = [(start, size) for (start, _), size in zip(self.spans, self.sizes)]
        events += [(end, -size) for (_, end), size in zip(self.spans, self.sizes)]
        return max(accumulate(change for _, change in sorted(events)), default=0)


@dataclass(frozen=True)
class Plan:
    """Where each map of a step starts in a block of `size` bytes."""

    sizes: list[int]
    starts: list[int]
    size: int

    @staticmethod
    def of(recording: Recording) -> "Plan":
        """A plan within a percent of the best most often; the best would be hard to find.

        Maps are placed one after the other, in some order. Of several orders the best is taken. That of time is it
        most often; where it is not, finding an order for the large maps alone, which takes no time, helps.
        """
        sizes, spans = recording.sizes, recording.spans
        everything = range(len(sizes))
        enough = recording.most_in_use() * (1 + _GOOD_ENOUGH)

        def by_time(i: int) -> int:
            return spans[i][0]

        def by_size(i: int) -> tuple[int, int]:
            return -sizes[i], spans[i][0]

        def by_length(i: int) -> float:
            return spans[i][0] - min(spans[i][1], recording.clock)

        best, _ = Plan._promoted(recording, sorted(everything, key=by_time), enough)
        for share in _LARGE:
            if best.size <= enough:
                return best
            large = [i for i in everything if sizes[i] >= share * enough]
            tries = [Plan._promoted(recording, sorted(large, key=key), 0.0) for key in (by_time, by_size, by_length)]
            _, order = min(tries, key=lambda found: found[0].size)
            order += sorted(set(everything).difference(large), key=by_time)
            plan, _ = Plan._promoted(recording, order, enough)
            best = min(best, plan, key=lambda plan: plan.size)
        return best

    @staticmethod
    def _promoted(recording: Recording, order: list[int], enough: float) -> "tuple[Plan, list[int]]":
        """The best plan of this order, and of others that come of placing first those maps that reach the top.

        That gives them the low places for which others leave room. With the order of that plan; it stops at one of
        `enough` bytes.
        """
        best: tuple[Plan, list[int]] | None = None
        for _ in range(min(_MOST_PROMOTIONS, 2 + _PROMOTIONS_TIMES_MAPS // max(1, len(order)))):
            plan = Plan._in_order(recording, order)
            if best is None or plan.size < best[0].size:
                best = plan, order
            if plan.size <= enough:
                break
            at_top = {i for i in order if plan.starts[i] + plan.sizes[i] == plan.size}
            order = sorted(order, key=lambda i: i not in at_top)
        return best

    @staticmethod
    def _in_order(recording: Recording, order: list[int]) -> "Plan":
        """Each map in turn at the lowest place that is free while it is in use."""
        sizes, spans = recording.sizes, recording.spans
        starts = [0] * len(sizes)
        placed: list[int] = []
        for number in order:
            begin, end = spans[number]
            neighbours = sorted(
                (starts[i], starts[i] + sizes[i]) for i in placed if spans[i][0] < end and begin < spans[i][1]
            )
            start = 0
            for low, high in neighbours:
                if start + sizes[number] <= low:
                    break
                start = max(start, high)
            starts[number] = start
            placed.append(number)
        size = max((starts[i] + sizes[i] for i in placed), default=0)
        return Plan(list(sizes), starts, size)
