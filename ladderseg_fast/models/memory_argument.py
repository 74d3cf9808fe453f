"""The argument `memory` of models, and the plans of models with a budget."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import lean, memory
from ..memory.lean_model import LeanModel
from ..ops import autocast
from .placement import DevicePlacement

_MODES = ("lean", "plain")

#: Share and bytes by which memory may exceed the prediction without a warning (docs/memory.md).
_TOLERANCE_SHARE, _TOLERANCE_BYTES = 0.03, 50_000_000

#: Kinds of steps whose plans are kept: each takes some hundred kilobytes, and a second to make again.
_MOST_KINDS = 64

#: Steps of one kind until memory settles: the optimizer then has its state, and the workspace its placement.
_STEPS_UNTIL_SETTLED = 2


def memory_mode(value: object) -> str:
    """Mode of a module with the argument memory=`value`: "plain", or "lean".

    Raises:
        ValueError: `value` is neither of these, nor a budget such as "8GiB", nor a lean.MemoryPlan.
    """
    if value in _MODES:
        return str(value)
    if isinstance(value, lean.MemoryPlan) or _budget(value) is not None:
        return "lean"
    raise ValueError(f"memory must be lean, plain, a budget such as 8GiB, or a MemoryPlan, got {value!r}")


def budget_plans(value: object) -> "BudgetPlans | None":
    """Plans of a model with the argument memory=`value`; None if that is not a budget."""
    budget = None if value in _MODES or isinstance(value, lean.MemoryPlan) else _budget(value)
    return None if budget is None else BudgetPlans(budget)


def _budget(value: object) -> int | None:
    try:
        return memory.parse_bytes(str(value))  # a number of any type, such as 8e9 or NumPy's
    except ValueError:
        return None


@dataclass
class _OnDevice:
    """The part of the steps of one kind that is on one device: its prediction, and the memory when the first one began.

    in_use: bytes in use on `device`, and `peak` their peak.
    """

    estimate: memory.Estimate
    workspace: lean.Workspace
    device: torch.device
    in_use: int | None
    peak: int


@dataclass
class _Kind:
    """Steps of one kind: their plan, its prediction for each device, and their part on each device once they run."""

    plan: lean.MemoryPlan
    estimates: list[memory.Estimate]
    parts: list[_OnDevice] = field(default_factory=list)
    steps: int = 0

    def begin(self, workspaces: Sequence[lean.Workspace], devices: Sequence[torch.device]) -> None:
        """Announces the places of the maps to the workspaces of the first step."""
        for estimate, workspace in zip(self.estimates, workspaces, strict=True):
            workspace.expect(estimate.placements)
        self.parts = [
            _OnDevice(*each, memory.memory_in_use(each[2]), memory.peak_memory(each[2]))
            for each in zip(self.estimates, workspaces, devices, strict=True)
        ]
        self.steps = 0


class BudgetPlans:
    """The plans of one model, each made when the model first meets images of a shape.

    `budget` bytes cover a whole training step, with Adam as the optimizer: see memory.plan.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    def __deepcopy__(self, memo: dict) -> "BudgetPlans":
        return type(self)(self.budget)  # the history of the process does not concern a copy

    def __reduce__(self) -> tuple:
        return type(self), (self.budget,)

    def plan_for(
        self, model: LeanModel, images: Tensor, workspace: lean.Workspace, placement: DevicePlacement | None = None
    ) -> lean.MemoryPlan | None:
        """The plan for a step with these images; None if no backward pass will follow.

        The budget is that of each device if there are several. Warns, once for each kind of step, if the steps before
        this one took more memory than predicted.

        Raises:
            memory.BudgetError: no plan fits.
        """
        if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in model.parameters()):
            return None
        dtype = autocast.feature_dtype(images.dtype, images.device)
        where = None if placement is None else (placement.devices, placement.cuts)
        key = tuple(images.shape), dtype, images.device, model.training, where
        kind = self._kinds.pop(key, None) or self._planned(model, images, dtype, placement)
        self._kinds[key] = kind  # the latest stands last
        while len(self._kinds) > _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        if not kind.parts:
            one = [workspace], [images.device]
            kind.begin(*(one if placement is None else (placement.workspaces, placement.devices)))
        if kind.steps == _STEPS_UNTIL_SETTLED:
            for part in kind.parts:
                self._check(part, alone=placement is None or len(set(placement.devices)) == len(placement.devices))
        kind.steps += 1
        return kind.plan

    def released(self) -> None:
        """Called when the workspaces have been released or others take their place: they know no places any more."""
        for kind in self._kinds.values():
            kind.parts = []

    def _planned(
        self, model: LeanModel, images: Tensor, dtype: torch.dtype, placement: DevicePlacement | None
    ) -> _Kind:
        device, shape = images.device, images.shape
        if placement is None:
            planned = memory.plan(model, shape, dtype, self.budget, device)
            return _Kind(planned.plan, [planned.estimate])
        planner = memory.parts_planner_for(model, shape, len(placement.devices), placement.cuts, dtype, device)
        parts = planner.plan(self.budget)
        return _Kind(parts.plan, [*parts.estimates])

    def _check(self, part: _OnDevice, alone: bool) -> None:
        """Compares with the prediction; `alone`: no other part of the model is on the same device."""
        self._compare("its feature maps", part.workspace.arena_size, part.estimate.workspace)
        if alone:
            self._check_process(part)

    def _check_process(self, part: _OnDevice) -> None:
        estimate, device = part.estimate, part.device
        peak = memory.peak_memory(device)
        if part.in_use is not None and peak > part.peak:  # else the peak is from before these steps
            there = estimate.parts["parameters and buffers"] + estimate.parts["images and labels"]
            what = f"tensors on {device}" if device.type == "cuda" else "the process"
            self._compare(what, peak, part.in_use + estimate.peak - there)

    def _compare(self, what: str, actual: int, predicted: int) -> None:
        if actual - predicted <= max(_TOLERANCE_SHARE * predicted, _TOLERANCE_BYTES):
            return
        sizes = f"{memory.format_bytes(actual)} at the peak, predicted were {memory.format_bytes(predicted)}"
        warnings.warn(
            f"a training step took more memory than was planned for a budget of {memory.format_bytes(self.budget)}: "
            f"{what} took {sizes}",
            RuntimeWarning,
            stacklevel=7,
        )
