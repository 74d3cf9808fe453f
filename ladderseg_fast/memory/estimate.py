"""Memory that a training step takes at its peak, and for what."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..lean import MemoryPlan
from ..lean.arena import Placement
from .cost_model import Rates
from .lean_model import LeanModel
from .symbolic import StepShape, costs_by_section, trace

#: Numbers that an optimizer keeps per parameter.
OPTIMIZERS = {"none": 0, "sgd": 1, "adam": 2, "adamw": 2}

#: What the core's and torch's threads and first calls leave behind on the CPU (benchmarks/NOTES.md).
_RUNTIME_BYTES = 31_000_000

#: What the system's allocator takes beyond hundreds of an optimizer's small tensors (benchmarks/NOTES.md).
_ALLOCATOR_SHARE = 0.1

#: What torch's own convolutions take on the CPU: copies of their weights, by those's bytes.
_TORCH_CONVOLUTIONS = 2.8


@dataclass(frozen=True)
class Estimate:
    """Prediction for one training step: forward, loss, backward, and the optimizer's.

    It is the peak from the second step on, beyond what importing the packages takes: on the CPU of the resident
    set, on CUDA of torch's allocator (a context, and what cuDNN and the allocator's caching take, come on top).
    """

    plan: MemoryPlan
    shape: StepShape
    parts: dict[str, int]
    """Bytes, by what they are for; `peak` is their sum."""
    workspace: int
    """Bytes of the workspace, in several of the parts."""
    seconds: float
    """Time of the step without the optimizer's, by the cost model."""
    without: str | None
    """Part of the model that these leave out, which torch runs."""
    section_seconds: dict[str, float]
    """Seconds by section and "transitions up"; the rest of the step is in neither."""
    placements: Mapping[Hashable, Placement] = field(repr=False)
    """Places of the maps, for Workspace.expect."""

    @cached_property
    def peak(self) -> int:
        """Bytes."""
        return sum(self.parts.values())


class StepEstimator:
    """A training step that can be estimated for any plan.

    Args:
        model: on the meta device.
        optimizer: one of OPTIMIZERS.
    """

    def __init__(self, model: LeanModel, shape: StepShape, optimizer: str, rates: Rates) -> None:
        self.model, self.shape, self.rates = model, shape, rates
        self._optimizer = optimizer
        parameters = [p for p in model.parameters() if p.requires_grad]
        self._rounding = _ALLOCATOR_SHARE if shape.device.type == "cpu" else 0.0
        self.gradients = sum(_size(p) for p in parameters)
        self.fixed = {
            "parameters and buffers": sum(_size(t) for t in (*model.parameters(), *model.buffers())),
            "gradients": self.gradients,
            "optimizer": round(OPTIMIZERS[optimizer] * self.gradients * (1.0 + self._rounding)),
            "images and labels": self._inputs(),
        }
        # On the CPU an optimizer works on one parameter after the other, on CUDA on lists of all.
        largest = max((_size(p) for p in parameters), default=0)
        self._update = 0 if optimizer == "none" else 2 * largest if shape.device.type == "cpu" else 2 * self.gradients

    def like(self, shape: StepShape) -> "StepEstimator":
        """The same of another shape."""
        return StepEstimator(self.model, shape, self._optimizer, self.rates)

    def estimate(self, plan: MemoryPlan) -> Estimate:
        """Estimate a step with `plan`."""
        traced, on_torch = trace(self.model, self.shape, plan), self.model.on_torch
        parts = dict(self.fixed)
        for name, size in traced.kept.items():
            parts[f"kept: {name}"] = size
        parts["workspace beyond what is kept"] = traced.workspace - sum(traced.kept.values())
        parts["scores, loss, vectors"] = max(self._update, traced.tensors - self.gradients)
        if self.shape.device.type == "cpu":
            parts["scores given back"] = self._scores()
            parts["threads, first calls"] = _RUNTIME_BYTES
            if on_torch is not None:
                weights = sum(_size(p) for p in on_torch[1].parameters())
                parts["copies of torch's convolutions"] = round(_TORCH_CONVOLUTIONS * weights)
        seconds = self.rates.step_seconds(traced.costs, plan)
        sections = {name: self.rates.step_seconds(costs, plan) for name, costs in costs_by_section(traced).items()}
        without = None if on_torch is None else on_torch[0]
        return Estimate(plan, self.shape, parts, traced.workspace, seconds, without, sections, traced.placements)

    def _scores(self) -> int:
        """Bytes of the class scores at 1/4: so much of freed ones the system's allocator keeps."""
        shape = self.shape
        pixels = shape.batch * (shape.height // 4) * (shape.width // 4)
        return pixels * self.model.num_classes * shape.dtype.itemsize

    def _inputs(self) -> int:
        shape = self.shape
        pixels = shape.batch * shape.height * shape.width
        values = pixels * self.model.in_channels
        return values * shape.parameter_dtype.itemsize + pixels


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
