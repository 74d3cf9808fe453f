"""The peak memory of a training step, and its parts."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..lean import MemoryPlan
from ..lean.arena import Placement
from .caching_allocator import rounded
from .cost_model import Rates
from .lean_model import LeanModel
from .reserved import Allocations
from .symbolic import StepShape, Trace, costs_by_section, trace

#: Numbers that an optimizer keeps per parameter.
OPTIMIZERS = {"none": 0, "sgd": 1, "adam": 2, "adamw": 2}

#: Bytes that the threads and first calls of the core and torch leave behind on the CPU (benchmarks/NOTES.md).
_RUNTIME_BYTES = 31_000_000

#: Overhead of the system's allocator for an optimizer's hundreds of small tensors (benchmarks/NOTES.md).
_ALLOCATOR_SHARE = 0.1


@dataclass(frozen=True)
class Estimate:
    """Prediction for one training step: forward, loss, backward, and the optimizer's step.

    It is the peak from the second step on, beyond what importing the packages takes: of the resident set on the CPU, of
    torch's allocator on CUDA (the context and what the allocator reserves beyond it come on top).
    """

    plan: MemoryPlan
    shape: StepShape
    parts: dict[str, int]
    """Bytes by purpose; `peak` is their sum."""
    workspace: int
    """Bytes of the workspace, which several of the parts include."""
    seconds: float
    """Time of the step without the optimizer, by the cost model."""
    section_seconds: dict[str, float]
    """Seconds by section and "transitions up"; they leave out the rest of the step."""
    placements: Mapping[Hashable, Placement] = field(repr=False)
    """Places of the maps, for Workspace.expect."""
    allocations: Allocations | None = field(repr=False)
    """Everything that torch's allocator is asked for on CUDA; None on the CPU."""

    @cached_property
    def peak(self) -> int:
        """Bytes at the peak."""
        return sum(self.parts.values())

    @cached_property
    def reserved(self) -> int | None:
        """Most bytes that torch's allocator takes from a GPU; the CUDA context comes on top. None on the CPU."""
        return None if self.allocations is None else self.allocations.most_reserved()


class StepEstimator:
    """A training step that can be estimated for any plan.

    Args:
        model: a model on the meta device.
        optimizer: one of OPTIMIZERS.
    """

    def __init__(self, model: LeanModel, shape: StepShape, optimizer: str, rates: Rates) -> None:
        self.model, self.shape, self.rates = model, shape, rates
        self._optimizer = optimizer
        parameters = [p for p in model.parameters() if p.requires_grad]
        on_cpu = shape.device.type == "cpu"
        self._size = _size if on_cpu else _size_on_cuda
        self._gradient_sizes = [self._size(p) for p in parameters]
        self.gradients = sum(self._gradient_sizes)
        self._model_sizes = [self._size(t) for t in (*model.parameters(), *model.buffers())]
        self.fixed = {
            "parameters and buffers": sum(self._model_sizes),
            "gradients": self.gradients,
            "optimizer": round(OPTIMIZERS[optimizer] * self.gradients * (1.0 + _ALLOCATOR_SHARE * on_cpu)),
            "images and labels": sum(self._inputs()),
        }
        # An optimizer works on one parameter at a time on the CPU, on lists of all parameters on CUDA.
        largest = max(self._gradient_sizes, default=0)
        self._update = 0 if optimizer == "none" else 2 * largest if on_cpu else 2 * self.gradients

    def like(self, shape: StepShape) -> "StepEstimator":
        """The same step with another shape."""
        return StepEstimator(self.model, shape, self._optimizer, self.rates)

    def estimate(self, plan: MemoryPlan) -> Estimate:
        """Estimates a step with `plan`."""
        traced = trace(self.model, self.shape, plan)
        parts = dict(self.fixed)
        for name, size in traced.kept.items():
            parts[f"kept: {name}"] = size
        parts["workspace beyond what is kept"] = traced.workspace - sum(traced.kept.values())
        parts["scores, loss, vectors"] = max(self._update, traced.tensors - self.gradients)
        if self.shape.device.type == "cpu":
            parts["scores given back"] = self._scores()
            parts["threads, first calls"] = _RUNTIME_BYTES
        seconds = self.rates.step_seconds(traced.costs, plan)
        sections = {name: self.rates.step_seconds(costs, plan) for name, costs in costs_by_section(traced).items()}
        return Estimate(
            plan,
            self.shape,
            parts,
            traced.workspace,
            seconds,
            sections,
            traced.placements,
            None if self.shape.device.type == "cpu" else self._allocations(traced),
        )

    def _allocations(self, traced: Trace) -> Allocations:
        model = [*self._model_sizes, *self._inputs()]
        state = self._gradient_sizes * OPTIMIZERS[self._optimizer]
        update = self._gradient_sizes * (0 if self._optimizer == "none" else 2)
        return Allocations(model, traced.workspace, traced, state, update)

    def _scores(self) -> int:
        """Bytes of the class scores at 1/4: the system's allocator keeps as many bytes of freed scores."""
        shape = self.shape
        pixels = shape.batch * (shape.height // 4) * (shape.width // 4)
        return pixels * self.model.num_classes * shape.dtype.itemsize

    def _inputs(self) -> tuple[int, int]:
        """Bytes of the images and of the labels."""
        shape = self.shape
        pixels = shape.batch * shape.height * shape.width
        return pixels * self.model.in_channels * shape.parameter_dtype.itemsize, pixels


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _size_on_cuda(tensor: torch.Tensor) -> int:
    return rounded(_size(tensor))
