"""What the argument `memory` of models may be, and plans for those that have a budget."""

import warnings

import torch
from torch import Tensor, nn

from .. import lean, memory
from ..ops import autocast

MEMORY_MODES = ("lean", "plain")

#: By so much the workspace may be larger than predicted before anybody is told.
_TOLERANCE = 0.03


def memory_mode(value: object) -> str:
    """How a module with the argument memory=`value` runs: "plain", or "lean".

    Raises:
        ValueError: it is neither of these, nor a budget such as "8GiB", nor a lean.MemoryPlan.
    """
    if value in MEMORY_MODES:
        return str(value)
    if isinstance(value, lean.MemoryPlan) or _budget(value) is not None:
        return "lean"
    raise ValueError(f"memory must be lean, plain, a budget such as 8GiB, or a MemoryPlan, got {value!r}")


def budget_plans(value: object) -> "BudgetPlans | None":
    """For a model with the argument memory=`value`, if that is a budget."""
    budget = None if value in MEMORY_MODES or isinstance(value, lean.MemoryPlan) else _budget(value)
    return None if budget is None else BudgetPlans(budget)


def _budget(value: object) -> int | None:
    try:
        return memory.parse_bytes(value)
    except ValueError:
        return None


class BudgetPlans:
    """The plans of one model, made when it first meets images of a shape.

    `budget` bytes are for all of a training step, with Adam as the optimizer: see memory.plan.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._planned: dict[tuple[object, ...], memory.Planned] = {}
        self._checked: set[tuple[object, ...]] = set()

    def plan_for(self, model: nn.Module, images: Tensor, workspace: lean.Workspace) -> lean.MemoryPlan | None:
        """The plan for a step with these images; None where no backward pass will follow.

        Warns, once for each shape, if the steps so far took more than predicted.

        Raises:
            memory.BudgetError: no plan fits.
        """
        if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in model.parameters()):
            return None
        dtype = autocast.feature_dtype(images)
        key = tuple(images.shape), dtype, images.device, model.training
        if key not in self._planned:
            self._planned[key] = memory.plan(model, images.shape, dtype, self.budget, images.device)
        planned = self._planned[key]
        if key not in self._checked and workspace.planned:
            self._checked.add(key)
            self._check(planned.estimate, workspace.planned, images.device)
        return planned.plan

    def _check(self, estimate: memory.Estimate, workspace: int, device: torch.device) -> None:
        if workspace > estimate.workspace * (1.0 + _TOLERANCE):
            self._warn("the workspace", workspace, estimate.workspace)
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
            if peak > estimate.peak:
                self._warn(f"all tensors on {device}", peak, estimate.peak)

    def _warn(self, what: str, actual: int, predicted: int) -> None:
        sizes = f"{memory.format_bytes(actual)} instead of {memory.format_bytes(predicted)}"
        budget = memory.format_bytes(self.budget)
        warnings.warn(
            f"a training step took more memory than planned for a budget of {budget}: {what} took {sizes}",
            RuntimeWarning,
            stacklevel=5,
        )
