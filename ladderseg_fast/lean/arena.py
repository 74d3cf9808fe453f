"""Placing the maps of a step in one block of memory, when it is known which they are and how long each is in use."""

from dataclasses import dataclass, field

#: Improvements that a plan goes through; each takes one or two milliseconds for a network, once.
_PROMOTIONS = 40


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


@dataclass(frozen=True)
class Plan:
    """Where each map of a step starts in a block of `size` bytes."""

    sizes: list[int]
    starts: list[int]
    size: int

    @staticmethod
    def of(recording: Recording) -> "Plan":
        """A plan within a few percent of the best, which would be hard to find.

        Maps are placed one after the other, the largest first. Then those that reach the top are placed first of all,
        again and again: that gives them the low places for which others leave room.
        """
        order = sorted(range(len(recording.sizes)), key=lambda i: (-recording.sizes[i], recording.spans[i][0]))
        plan = best = Plan._in_order(recording, order)
        for _ in range(_PROMOTIONS):
            at_top = {i for i in order if plan.starts[i] + plan.sizes[i] == plan.size}
            order.sort(key=lambda i: i not in at_top)
            plan = Plan._in_order(recording, order)
            best = min(best, plan, key=lambda plan: plan.size)
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
        size = max((start + size for start, size in zip(starts, sizes)), default=0)
        return Plan(list(sizes), starts, size)
