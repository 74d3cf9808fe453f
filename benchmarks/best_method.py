"""The best of the methods that lean is compared with."""

from collections.abc import Iterable
from dataclasses import dataclass

from in_turn import Outcome

#: Names of the methods of this package begin so; all others are what they are compared with.
OURS = ("lean", "planned into", "converted")


@dataclass(frozen=True)
class Best:
    """The fastest and the smallest of the other methods: ratios are to these, which may be two different methods."""

    fastest: Outcome
    smallest: Outcome

    @staticmethod
    def of(outcomes: Iterable[Outcome]) -> "Best | None":
        """Best of the outcomes that are not ours and did not fail; None if there is none."""
        others = [each for each in outcomes if each.failure is None and not each.method.startswith(OURS)]
        if not others:
            return None
        return Best(min(others, key=lambda each: each.seconds), min(others, key=lambda each: each.peak_bytes))

    def time_ratio(self, outcome: Outcome) -> str:
        """Time of `outcome` by that of the fastest."""
        return f"{outcome.seconds / self.fastest.seconds:.2f}"

    def memory_ratio(self, outcome: Outcome) -> str:
        """Peak of `outcome` by that of the smallest."""
        return f"{outcome.peak_bytes / self.smallest.peak_bytes:.2f}"

    @property
    def sentence(self) -> str:
        """Names of both, in words."""
        if self.fastest is self.smallest:
            return f"Best other method, in time and memory: {self.fastest.method}."
        return f"Best other methods: {self.fastest.method} in time, {self.smallest.method} in memory."
