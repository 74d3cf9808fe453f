"""The fastest plan whose step fits into a budget."""

import itertools
import math
from dataclasses import dataclass, replace

import torch

from ..lean import MemoryPlan
from .budget import format_bytes
from .choices import Choices, Option, whole_plans
from .estimate import Estimate, Step
from .search import Found, fastest, least_memory

#: A whole plan that cannot be better than the best one so far by more than this share is not searched.
_TOLERANCE = 0.005

#: Searches with ever less memory, until a plan's maps can be placed in what there is.
_ATTEMPTS = 12


class BudgetError(ValueError):
    """A budget that no plan meets.

    smallest: bytes at the peak of the smallest plan.
    """

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


@dataclass(frozen=True)
class Planned:
    """A plan and what it takes.

    gap: its time is at most this share above that of the best plan there is under the cost model.
    """

    estimate: Estimate
    fastest: Estimate
    """The same of the plan that makes nothing again."""
    gap: float

    @property
    def costs(self) -> dict[str, float]:
        """Seconds that what the plan makes again takes, by section, and "transitions up"."""
        own, least = self.estimate.section_seconds, self.fastest.section_seconds
        return {name: own[name] - least[name] for name in own}

    @property
    def plan(self) -> MemoryPlan:
        return self.estimate.plan


class Planner:
    """Plans for one training step."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self._choices: dict[int, Choices] = {}
        self._wholes = whole_plans(step.shape)

    def fastest(self) -> Estimate:
        """The step that makes nothing again."""
        choices = self._choices_of(0)
        return self.step.estimate(choices.keep_everything())

    def smallest(self) -> Estimate:
        """The step with about the least memory."""
        last = len(self._wholes) - 1
        choices = self._choices_of(last)
        names = [skip.name for skip in choices.skips]
        found: list[tuple[int, MemoryPlan]] = []
        for first in range(len(names) + 1):  # keeping those of the finest maps is worth most
            kept = frozenset(names[first:])
            options, rest = _options(choices, kept), choices.rest_peak(kept)
            limit = least_memory(options, rest)
            found.append((limit, choices.plan(fastest(options, limit, rest, 0.0).options, kept)))
        least = min(limit for limit, _ in found)
        plans = [plan for limit, plan in found if limit <= 1.01 * least]
        plans += [choices.variant_plan("recompute in strips"), choices.variant_plan("strips")]
        return min((self.step.estimate(plan) for plan in plans), key=lambda estimate: estimate.peak)

    def about_smallest(self) -> Estimate:
        """The same without a search: it may be a few percent larger."""
        choices = self._choices_of(len(self._wholes) - 1)
        plans = choices.variant_plan("recompute in strips"), choices.variant_plan("strips")
        return min((self.step.estimate(plan) for plan in plans), key=lambda estimate: estimate.peak)

    def plan(self, budget: int) -> Planned:
        """The fastest step within `budget` bytes.

        Raises:
            BudgetError: there is none.
        """
        fastest_step = self.fastest()
        if fastest_step.peak <= budget:
            return Planned(fastest_step, fastest_step, 0.0)
        limit = budget - (fastest_step.peak - fastest_step.workspace)
        target, bound = limit, None
        for _ in range(_ATTEMPTS):
            candidates = self._candidates(target)
            if not candidates:
                break
            bound = candidates[0][0] if bound is None else bound
            excess = []
            for seconds, plan in candidates:
                estimate = self.step.estimate(plan)
                if estimate.peak <= budget:
                    return Planned(estimate, fastest_step, seconds / bound - 1.0)
                excess.append(estimate.peak - budget)
            target -= max(min(excess) // 4, limit // 200)
        smallest = self.smallest()
        if smallest.peak <= budget:
            return Planned(smallest, fastest_step, smallest.seconds / (bound or fastest_step.seconds) - 1.0)
        raise BudgetError(self._unattainable(budget, smallest.peak), smallest.peak)

    def _candidates(self, limit: int) -> list[tuple[float, MemoryPlan]]:
        """By whole plan, the fastest plan whose maps in use take `limit` bytes at most, with its time; the best first."""
        found: list[tuple[float, MemoryPlan]] = []
        for i in range(len(self._wholes)):
            choices = self._choices_of(i)
            least = min((seconds for seconds, _ in found), default=math.inf)
            # As if sections took no memory in their own passes, and were as fast as in the fastest of the whole plans.
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
            size = Planner(self.step.like(other)).about_smallest().peak
            helps.append(f"{other.batch} x {other.height}x{other.width} in {_name(other.dtype)} {format_bytes(size)}")
        return message + (f"; of {'; of '.join(helps)}" if helps else "")


def _best(choices: Choices, limit: int, relaxed: Choices | None = None) -> tuple[float, MemoryPlan] | None:
    """The fastest plan whose maps take `limit` bytes, with its seconds; every set of skip connections is tried.

    With `relaxed` sections have its options, less what these take in their own passes: for a bound.
    """
    total = choices.least_seconds
    all_options = None
    if relaxed is not None:
        all_options = {name: [replace(o, peak=0) for o in each] for name, each in relaxed.options.items()}
    best: tuple[float, Found, frozenset[str]] | None = None
    for count in range(len(choices.skips), -1, -1):
        for kept in itertools.combinations(choices.skips, count):
            names = frozenset(skip.name for skip in kept)
            besides = choices.seconds_besides - sum(skip.saved for skip in kept)
            options = _options(choices, names, all_options)
            if best is not None and besides + sum(each[0].seconds for each in options.values()) >= best[0]:
                continue
            found = fastest(options, limit, choices.rest_peak(names), total)
            if found is not None and (best is None or besides + found.seconds < best[0]):
                best = besides + found.seconds, found, names
    return None if best is None else (best[0], choices.plan(best[1].options, best[2]))


def _options(
    choices: Choices, kept: frozenset[str], options: dict[str, list[Option]] | None = None
) -> dict[str, list[Option]]:
    """Those of `options` (None: of `choices`) that can be where the skips `kept` are kept."""
    return {
        name: [o for o in each if not o.plan.recompute or name in kept or not choices.has_skip(name)]
        for name, each in (choices.options if options is None else options).items()
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
