"""The cuts of a model on several devices that balance their memory, and the fastest plan that fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..lean import MemoryPlan
from .byte_sizes import format_bytes
from .estimate import Estimate, StepEstimator
from .part_steps import PartSteps
from .planner import BudgetError, Planner

#: Searches of a plan for all devices together end when its limit is known up to this share.
_RESOLUTION = 0.03


@dataclass(frozen=True)
class PlannedParts:
    """A plan for a model on several devices.

    cuts: sections after which the cuts lie.
    plan: the plan, the same on all devices.
    estimates: prediction for each device. The devices work one after the other: times add up.
    fastest_seconds: time of the plan that recomputes nothing.
    """

    cuts: tuple[str, ...]
    plan: MemoryPlan
    estimates: tuple[Estimate, ...]
    fastest_seconds: float

    @cached_property
    def peak(self) -> int:
        """Bytes at the peak of the device that takes most."""
        return max(estimate.peak for estimate in self.estimates)

    @property
    def seconds(self) -> float:
        """Seconds of a step, by the cost model, without the copies between devices."""
        return sum(estimate.seconds for estimate in self.estimates)


class PartsPlanner:
    """Plans for a training step on several devices of one kind.

    Args:
        steps: the model.
        devices: number of devices.
        cuts: sections after which the cuts lie; None: the planner chooses.

    Raises:
        ValueError: there are more devices than sections.
    """

    def __init__(self, steps: PartSteps, devices: int, cuts: Sequence[str] | None = None) -> None:
        if not 1 <= devices <= len(steps.sections):
            raise ValueError(f"devices must be 1 to {len(steps.sections)}, a section for each, got {devices}")
        self.steps, self.devices, self.cuts = steps, devices, cuts
        self.whole = Planner(StepEstimator(steps.model, steps.shape, steps.optimizer, steps.rates))

    @cached_property
    def fastest(self) -> PlannedParts:
        """The step that recomputes nothing."""
        return self.with_plan(self.whole.fastest.plan)

    def with_plan(self, plan: MemoryPlan) -> PlannedParts:
        """The step with `plan`, cut so that the device that takes most takes least."""
        if self.cuts is None:
            found = self._balanced(plan, 0, self.devices)
            assert found is not None, "there is a section for each device"
            lasts = found[1]
        else:
            lasts = [*map(self.steps.sections.index, self.cuts), len(self.steps.sections) - 1]
        firsts = [0, *(last + 1 for last in lasts[:-1])]
        estimates = tuple(self.steps.estimate(plan, first, last) for first, last in zip(firsts, lasts))
        cuts = tuple(self.steps.sections[last] for last in lasts[:-1])
        return PlannedParts(cuts, plan, estimates, self.whole.fastest.seconds)

    def plan(self, budget: int) -> PlannedParts:
        """The fastest step found whose peak is within `budget` bytes on every device.

        The plans tried are the fastest ones for so many bytes on one device.

        Raises:
            BudgetError: none of them fits.
        """
        if self.fastest.peak <= budget:
            return self.fastest
        best = self.with_plan(self.whole.smallest.plan)
        if best.peak > budget:
            shape = self.steps.shape
            what = f"{shape.batch} x {shape.height}x{shape.width} on {self.devices} devices"
            sizes = f"{format_bytes(budget)} on each: the smallest takes {format_bytes(best.peak)} on one of them"
            raise BudgetError(f"no plan for {what} fits into {sizes}", best.peak)
        low, high = self.whole.smallest.peak, self.whole.fastest.peak
        while high - low > _RESOLUTION * high:
            middle = (low + high) // 2
            found = self.with_plan(self.whole.plan(middle).plan)
            if found.peak <= budget:
                low = middle
                best = min(best, found, key=lambda each: each.seconds)
            else:
                high = middle
        return best

    def _balanced(
        self, plan: MemoryPlan, first: int, devices: int, limit: float = float("inf")
    ) -> tuple[int, list[int]] | None:
        """The least peak below `limit` of sections from `first` on, on so many devices, and the devices' last sections.

        None if there is none. Memory of a device grows with its sections.
        """
        end = len(self.steps.sections) - 1
        if devices == 1:
            peak = self.steps.estimate(plan, first, end).peak
            return (peak, [end]) if peak < limit else None
        best = None
        for last in range(first, end - devices + 2):
            peak = self.steps.estimate(plan, first, last).peak
            if peak >= limit:
                break
            rest = self._balanced(plan, last + 1, devices - 1, limit)
            if rest is not None:
                limit = max(peak, rest[0])
                best = int(limit), [last, *rest[1]]
        return best
