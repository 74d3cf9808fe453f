"""Memory budgets of converted modules: the planner of models, for a part of a model."""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..lean import MemoryPlan, Workspace
from ..models.memory_argument import BudgetPlans


class Plannable(Protocol):
    """A module that runs as a lean program under a plan: a converted one."""

    lean_state: Any
    training: bool

    def lean_sections(self) -> list[str]:
        """The sections that a plan may name, in the order of the forward pass."""

    def lean_forward(self, x: Tensor) -> Any:
        """Results for x [N, C, H, W], from the programs under the plan in `lean_state`."""


class PartBudget(BudgetPlans):
    """The plans of one converted module within a budget, each made when it first meets maps of a shape.

    The budget covers what the module's own training step takes, not what torch runs around it. So only the module's
    feature maps are compared with what was planned.
    """

    def _check_process(self, part: Any) -> None:
        """The rest of the process is not planned."""


class PlannedPart(nn.Module):
    """A converted module as the planner sees it: memory.LeanModel. Its maps play the part of images.

    Args:
        module: a converted module.
        in_channels: channels of its input.
    """

    num_classes = 1
    min_size = 1

    def __init__(self, module: Plannable, in_channels: int) -> None:
        super().__init__()
        self.module = module
        self.in_channels = in_channels
        self.training = module.training

    @property
    def section_names(self) -> list[str]:
        """The sections that a plan may name, in the order of the forward pass."""
        return self.module.lean_sections()

    def lean_scores(
        self, images: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
    ) -> tuple[Tensor, ...]:
        """A score [N, 1, 1, 1] for maps [N, C, H, W] on which all results of the module depend."""
        state = copy.copy(self.module.lean_state)
        self.module.lean_state, before = state, self.module.lean_state
        state.plan, state.budget, state.workspace = plan, None, workspace or Workspace()
        try:
            results = self.module.lean_forward(images)
        finally:
            self.module.lean_state = before
        maps = [results] if isinstance(results, Tensor) else [each for each in results if each is not images]
        return (torch.stack([each.flatten(1).sum(1) for each in maps]).sum(0).view(-1, 1, 1, 1),)
