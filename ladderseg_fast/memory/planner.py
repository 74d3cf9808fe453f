"""The fastest plan whose step fits into a budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..lean import MemoryPlan
from ..lean.batch_norm import SingleValueError
from .byte_sizes import format_bytes
from .choices import Choices, Option, whole_plans
from .estimate import Estimate, StepEstimator
from .search import RESOLUTION, Found, fastest, least_memory

#: Share by which a good enough plan may take longer than the lower bound for all plans.
_TOLERANCE = 0.005

#: Smallest share of their usual bytes that maps take if pixels lie close together (Workspace.take).
_CLOSE_SHARE = 8 / 9

#: Searches with less and less memory, until the maps of a plan can be placed in the memory available.
_ATTEMPTS = 12


class BudgetError(ValueError):
    """A budget that no plan meets.

    smallest: bytes at the peak of the smallest plan.
    """

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


@dataclass(frozen=True)
class PlannedStep:
    """A plan and its estimate.

    gap: its time exceeds that of the best plan under the cost model by at most this share.
    """

    estimate: Estimate
    fastest: Estimate
    """Estimate of the plan that recomputes nothing."""
    gap: float

    @property
    def costs(self) -> dict[str, float]:
        """Seconds that the plan spends on recomputing, by section, and for "transitions up"."""
        own, least = self.estimate.section_seconds, self.fastest.section_seconds
        return {name: own[name] - least[name] for name in own}

    @property
    def plan(self) -> MemoryPlan:
        """The plan of the estimated step."""
        return self.estimate.plan


class Planner:
    """Plans for one training step."""

    def __init__(self, step: StepEstimator) -> None:
        self.step = step
        self._choices: dict[int, Choices] = {}
        self._wholes = whole_plans(step.shape)

    @cached_property
    def fastest(self) -> Estimate:
        """The step that recomputes nothing."""
        return self.step.estimate(self._choices_of(0).keep_everything())

    @cached_property
    def smallest(self) -> Estimate:
        """The step with the least memory."""
        choices = self._choices_of(len(self._wholes) - 1)
        needs = []
        for kept in choices.skip_sets():
            options = _possible(choices, kept, choices.options)
            needs.append((least_memory(options, choices.rest_peak(kept)), -len(kept), kept, options))
        limit, _, kept, options = min(needs, key=lambda need: need[:2])
        found = fastest(options, limit, choices.rest_peak(kept), 0.0)
        assert found is not None, "the limit is the least with which there is one"
        return self.step.estimate(choices.plan(found.options, kept))

    def about_smallest(self) -> Estimate:
        """An approximation of `smallest` without a search, which may be a few percent larger."""
        choices = self._choices_of(len(self._wholes) - 1)
        plans = choices.variant_plan("recompute in strips"), choices.variant_plan("strips")
        return min((self.step.estimate(plan) for plan in plans), key=lambda estimate: estimate.peak)

    def plan(self, budget: int) -> PlannedStep:
        """The fastest step within `budget` bytes.

        Raises:
            BudgetError: no step fits.
        """
        if self.fastest.peak <= budget:
            return PlannedStep(self.fastest, self.fastest, 0.0)
        best, bound = self._search(budget, budget - (self.fastest.peak - self.fastest.workspace))
        if best is None:
            best = self.smallest
            if best.peak > budget:
                raise BudgetError(self._unattainable(budget, best.peak), best.peak)
        return PlannedStep(best, self.fastest, best.seconds / min(best.seconds, bound) - 1.0)

    def _search(self, budget: int, limit: int) -> tuple[Estimate | None, float]:
        """The fastest step found within `budget` bytes, `limit` of them for maps, and a lower bound for all such steps.

        The maps of a plan can take more in one block than is in use at once. So if the best plan for `limit` does not
        fit, the search goes on with less memory.
        """
        best, bound, target = None, self.fastest.seconds, limit
        for attempt in range(_ATTEMPTS):
            excess: list[int] = []
            for seconds, plan in self._candidates(target):
                if attempt == 0 and not excess:
                    bound = seconds / (1.0 + _TOLERANCE + len(self._choices_of(0).sections) * RESOLUTION)
                if best is not None and seconds >= best.seconds:
                    break
                estimate = self.step.estimate(plan)
                if estimate.peak <= budget:
                    best = estimate
                    break
                excess.append(estimate.peak - budget)
            if not excess or (best is not None and best.seconds <= bound * (1.0 + 2.0 * _TOLERANCE)):
                break
            target -= max(min(excess), limit // 1000)
        return best, bound

    def _candidates(self, limit: int) -> list[tuple[float, MemoryPlan]]:
        """Fastest plan within `limit` bytes of maps for each whole plan, with its time; the best first.

        It omits whole plans whose plan cannot be faster by more than _TOLERANCE than the best one found before.
        """
        found: list[tuple[float, MemoryPlan]] = []
        for i in range(len(self._wholes)):
            choices = self._choices_of(i)
            least = min((seconds for seconds, _ in found), default=math.inf)
            # The bound takes sections to be as fast as in the fastest whole plan.
            bound = _best(choices, limit, self._choices_of(0))
            if bound is None or least <= bound[0] * (1.0 + _TOLERANCE):
                continue
            best = _best(choices, limit)
            if best is not None:
                found.append(best)
        return sorted(found, key=lambda each: each[0])

    def _choices_of(self, index: int) -> Choices:
        if index not in self._choices:
            self._choices[index] = Choices(self.step.model, self.step.shape, self._wholes[index], self.step.rates)
        return self._choices[index]

    def _unattainable(self, budget: int, smallest: int) -> str:
        shape = self.step.shape
        what = f"{shape.batch} x {shape.height}x{shape.width} in {_name(shape.dtype)}"
        message = f"no plan for {what} fits into {format_bytes(budget)}: the smallest takes {format_bytes(smallest)}"
        others = []
        if shape.batch > 1:
            others.append(replace(shape, batch=shape.batch // 2))
        half = replace(shape, height=shape.height // 2, width=shape.width // 2)
        if min(half.height, half.width) >= self.step.model.min_size:
            others.append(half)
        if shape.device.type != "cpu" and shape.dtype.itemsize > 2:
            others.append(replace(shape, dtype=torch.float16))
        helps = []
        for other in others:
            try:
                size = Planner(self.step.like(other)).about_smallest().peak
            except SingleValueError:
                continue  # batch norm cannot train on this shape
            helps.append(f"{other.batch} x {other.height}x{other.width} in {_name(other.dtype)} {format_bytes(size)}")
        return message + (f"; of {'; of '.join(helps)}" if helps else "")


def _best(choices: Choices, limit: int, relaxed: Choices | None = None) -> tuple[float, MemoryPlan] | None:
    """The fastest plan whose maps take at most `limit` bytes, with its seconds; tries every set of skip connections.

    If `relaxed` is given, sections get its options, relaxed, and the result is a lower bound.
    """
    total = choices.least_seconds
    all_options = choices.options if relaxed is None else _relaxed(relaxed.options)
    best: tuple[float, Found, frozenset[str]] | None = None
    for kept in choices.skip_sets():
        besides = choices.seconds_besides(kept)
        options = _possible(choices, kept, all_options)
        if best is not None and besides + sum(each[0].seconds for each in options.values()) >= best[0]:
            continue
        found = fastest(options, limit, choices.rest_peak(kept), total)
        if found is not None and (best is None or besides + found.seconds < best[0]):
            best = besides + found.seconds, found, kept
    return None if best is None else (best[0], choices.plan(best[1].options, best[2]))


def _relaxed(options: Mapping[str, list[Option]]) -> dict[str, list[Option]]:
    """Options that keep no more than with pixels close together, and take no memory in their own passes."""
    return {
        name: [replace(o, peak=0, kept=min(o.kept, int(_CLOSE_SHARE * o.kept))) for o in each]
        for name, each in options.items()
    }


def _possible(choices: Choices, kept: frozenset[str], options: Mapping[str, list[Option]]) -> dict[str, list[Option]]:
    """Options that are possible if the skips `kept` are kept."""
    return {
        name: [o for o in each if not o.plan.recompute or name in kept or not choices.has_skip(name)]
        for name, each in options.items()
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
