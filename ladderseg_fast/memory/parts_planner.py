"""The cuts of a model on several devices that balance their memory, and the fastest plan that fits."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..lean import MemoryPlan
from .byte_sizes import format_bytes
from .estimate import Estimate, StepEstimator
from .part_steps import PartSteps
from .planner import BudgetError, Planner

#: Number of the plan that recomputes nothing, of those that are tried for a budget.
_PLANS = 10


@dataclass(frozen=True)
class PlannedParts:
    """A plan for a model on several devices.

    cuts: sections after which the cuts lie.
    plan: the plan, the same on all devices.
    estimates: prediction for each device. The devices work one after the other: times add up.
    sections: the sections on each device.
    fastest: estimate of the plan that recomputes nothing, on one device.
    """

    cuts: tuple[str, ...]
    plan: MemoryPlan
    estimates: tuple[Estimate, ...]
    sections: tuple[tuple[str, ...], ...]
    fastest: Estimate

    @cached_property
    def peak(self) -> int:
        """Bytes at the peak of the device that takes most."""
        return max(estimate.peak for estimate in self.estimates)

    @property
    def seconds(self) -> float:
        """Seconds of a step, by the cost model, without the copies between devices."""
        return sum(estimate.seconds for estimate in self.estimates)

    @property
    def costs(self) -> dict[str, float]:
        """Seconds that the plan spends on recomputing, by section, and for "transitions up"."""
        own: Counter[str] = Counter()
        for estimate in self.estimates:
            own.update(estimate.section_seconds)
        return {name: own[name] - least for name, least in self.fastest.section_seconds.items()}


class PartsPlanner:
    """Plans for a training step on several devices of one kind.

    Args:
        steps: the model.
        devices: number of devices.
        cuts: sections after which the cuts lie; None: the planner chooses.

    Raises:
        ValueError: there are more devices than sections, or not a cut less than devices.
    """

    def __init__(self, steps: PartSteps, devices: int, cuts: Sequence[str] | None = None) -> None:
        if not 1 <= devices <= len(steps.sections):
            raise ValueError(f"devices must be 1 to {len(steps.sections)}, a section for each, got {devices}")
        if cuts is not None and len(cuts) != devices - 1:
            raise ValueError(f"cuts must be one less than the {devices} devices, got {', '.join(cuts) or 'none'}")
        self.steps, self.devices, self.cuts = steps, devices, cuts
        self._plans: dict[int, MemoryPlan] = {}
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
            return self._planned(plan, found[1])
        return self._planned(plan, [*map(self.steps.sections.index, self.cuts), len(self.steps.sections) - 1])

    def plan(self, budget: int) -> PlannedParts:
        """The fastest step found whose peak is within `budget` bytes on every device.

        It tries the plans that are the fastest for so many bytes on one device: first the same plan for all devices,
        then with these cuts one for the sections of each.

        Raises:
            BudgetError: none of them fits.
        """
        if self.fastest.peak <= budget:
            return self.fastest
        number = _last(0, _PLANS, lambda i: self.with_plan(self._plan_of_all(i)).peak <= budget)
        if number is None:
            shape, least = self.steps.shape, self.with_plan(self._plan_of_all(0)).peak
            what = f"{shape.batch} x {shape.height}x{shape.width} on {self.devices} devices"
            sizes = f"{format_bytes(budget)} on each: the smallest takes {format_bytes(least)} on one of them"
            raise BudgetError(f"no plan for {what} fits into {sizes}", least)
        best = self.with_plan(self._plan_of_all(number))
        mixed = self._mixed(best, number, budget)
        return min(best, mixed, key=lambda each: each.seconds) if mixed.peak <= budget else best

    def _mixed(self, found: PlannedParts, number: int, budget: int) -> PlannedParts:
        """The step whose sections have, on each device, the fastest plan from plan `number` on that fits there."""
        least, sections = self._plan_of_all(number), dict(self._plan_of_all(number).sections)
        lasts = self._lasts(found)
        for first, last in zip([0, *(last + 1 for last in lasts)], lasts):

            def fits(i: int, first: int = first, last: int = last) -> bool:
                return self.steps.estimate(self._plan_of_all(i), first, last).peak <= budget

            own = self._plan_of_all(_last(number, _PLANS + 1, fits) or number).sections
            sections |= {name: own[name] for name in self.steps.sections[first : last + 1] if name in own}
        return self._planned(replace(least, sections=sections), lasts)

    def _plan_of_all(self, number: int) -> MemoryPlan:
        """Plan 0 takes least on one device, plan _PLANS most; the bytes of those between grow by equal shares."""
        if number not in self._plans:
            smallest, fastest = self.whole.smallest, self.whole.fastest
            limit = smallest.peak * (fastest.peak / smallest.peak) ** (number / _PLANS)
            ends = {0: smallest.plan, _PLANS: fastest.plan}
            self._plans[number] = ends[number] if number in ends else self.whole.plan(int(limit)).plan
        return self._plans[number]

    def _planned(self, plan: MemoryPlan, lasts: Sequence[int]) -> PlannedParts:
        """The step with `plan`; `lasts`: number of the last section on each device."""
        ranges = [*zip([0, *(last + 1 for last in lasts)], lasts)]
        estimates = tuple(self.steps.estimate(plan, first, last) for first, last in ranges)
        sections = tuple(tuple(self.steps.sections[first : last + 1]) for first, last in ranges)
        return PlannedParts(tuple(names[-1] for names in sections[:-1]), plan, estimates, sections, self.whole.fastest)

    def _lasts(self, planned: PlannedParts) -> list[int]:
        return [self.steps.sections.index(names[-1]) for names in planned.sections]

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


def _last(first: int, stop: int, holds: Callable[[int], bool]) -> int | None:
    """The last number of [first, stop) with a property; None if there is none."""
    return next((number for number in reversed(range(first, stop)) if holds(number)), None)
