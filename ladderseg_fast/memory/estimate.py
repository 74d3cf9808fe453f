"""The peak memory of a training step, and its parts."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

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


class DeviceStep:
    """Estimates of training steps on a device, from what it holds besides their maps.

    Args:
        parameters, buffers: those on the device, themselves on the meta device.
        inputs: sizes in bytes of the images and labels on the device.
        scores: bytes of the class scores at 1/4 that are made on the device.
        optimizer: one of OPTIMIZERS.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        buffers: Sequence[Tensor],
        inputs: Sequence[int],
        scores: int,
        shape: StepShape,
        optimizer: str,
        rates: Rates,
    ) -> None:
        self.shape, self.rates = shape, rates
        self._inputs, self._scores, self._optimizer = inputs, scores, optimizer
        on_cpu = shape.device.type == "cpu"
        size = _size if on_cpu else _size_on_cuda
        self._gradient_sizes = [size(p) for p in parameters if p.requires_grad]
        self._gradients = sum(self._gradient_sizes)
        self._model_sizes = [size(t) for t in (*parameters, *buffers)]
        self._fixed = {
            "parameters and buffers": sum(self._model_sizes),
            "gradients": self._gradients,
            "optimizer": round(OPTIMIZERS[optimizer] * self._gradients * (1.0 + _ALLOCATOR_SHARE * on_cpu)),
            "images and labels": sum(inputs),
        }
        # An optimizer works on one parameter at a time on the CPU, on lists of all parameters on CUDA.
        largest = max(self._gradient_sizes, default=0)
        self._update = 0 if optimizer == "none" else 2 * largest if on_cpu else 2 * self._gradients

    def estimate(self, traced: Trace, plan: MemoryPlan) -> Estimate:
        """Estimates the step that has been `traced`, with `plan`."""
        parts = dict(self._fixed)
        for name, size in traced.kept.items():
            parts[f"kept: {name}"] = size
        parts["workspace beyond what is kept"] = traced.workspace - sum(traced.kept.values())
        parts["scores, loss, vectors"] = max(self._update, traced.tensors - self._gradients)
        if self.shape.device.type == "cpu":
            parts["scores given back"] = self._scores  # of which the system's allocator keeps as many bytes
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
        model = [*self._model_sizes, *self._inputs]
        state = self._gradient_sizes * OPTIMIZERS[self._optimizer]
        update = self._gradient_sizes * (0 if self._optimizer == "none" else 2)
        return Allocations(model, traced.workspace, traced, state, update)


class StepEstimator:
    """A training step that can be estimated for any plan.

    Args:
        model: a model on the meta device.
        optimizer: one of OPTIMIZERS.
    """

    def __init__(self, model: LeanModel, shape: StepShape, optimizer: str, rates: Rates) -> None:
        self.model, self.shape, self.optimizer, self.rates = model, shape, optimizer, rates
        inputs, scores = input_bytes(model, shape), score_bytes(model, shape)
        parameters, buffers = [*model.parameters()], [*model.buffers()]
        self._device = DeviceStep(parameters, buffers, inputs, scores, shape, optimizer, rates)

    def like(self, shape: StepShape) -> "StepEstimator":
        """The same step with another shape."""
        return StepEstimator(self.model, shape, self.optimizer, self.rates)

    def estimate(self, plan: MemoryPlan) -> Estimate:
        """Estimates a step with `plan`."""
        return self._device.estimate(trace(self.model, self.shape, plan), plan)


def input_bytes(model: LeanModel, shape: StepShape) -> tuple[int, int]:
    """Bytes of the images and of the labels."""
    pixels = shape.batch * shape.height * shape.width
    return pixels * model.in_channels * shape.parameter_dtype.itemsize, pixels


def score_bytes(model: LeanModel, shape: StepShape) -> int:
    """Bytes of the class scores at 1/4."""
    return shape.batch * (shape.height // 4) * (shape.width // 4) * model.num_classes * shape.dtype.itemsize


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _size_on_cuda(tensor: Tensor) -> int:
    return rounded(_size(tensor))
