"""The memory of each device in a training step of a model in parts (lean/parts.py), without running it.

A device holds the parameters, gradients and state of its sections, and the maps of their stages. What it takes does not
depend on where the other cuts lie: a part is traced alone, with features that come from elsewhere and gradients that
come back.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..lean import MemoryPlan, Workspace
from ..lean.parts import Feature, Part
from ..ops.backend import backend_of, using
from .cost_model import Rates
from .estimate import DeviceStep, Estimate, input_bytes, score_bytes
from .lean_model import PartedModel
from .symbolic import StepShape, Watcher, inputs_on_meta, loss_of, traced


class PartSteps:
    """Training steps of ranges of a model's sections, each alone on a device.

    Args:
        model: a model on the meta device.
        optimizer: one of OPTIMIZERS.

    Attributes:
        sections: the sections in the order of the forward pass; no cut lies after the last, "head".
    """

    def __init__(self, model: PartedModel, shape: StepShape, optimizer: str, rates: Rates) -> None:
        self.model, self.shape, self.optimizer, self.rates = model, shape, optimizer, rates
        self.sections = [*model.cut_sections, "head"]
        self._images, self._labels = inputs_on_meta(model, shape)
        self._features = self._features_between_sections()
        self._estimates: dict[tuple[object, int, int], Estimate] = {}

    def estimate(self, plan: MemoryPlan, first: int, last: int) -> Estimate:
        """Estimates the memory of a device with the sections of these numbers, in a step with `plan`."""
        key = plan.key, first, last
        if key not in self._estimates:
            self._estimates[key] = self._estimate(plan, first, last)
        return self._estimates[key]

    def _estimate(self, plan: MemoryPlan, first: int, last: int) -> Estimate:
        ends_here = last == len(self.sections) - 1
        cuts = [*self.sections[first - 1 : first], *([] if ends_here else [self.sections[last]])]
        parted = self.model.parted_program(plan, cuts)
        part = parted.parts[1 if first else 0]
        outputs = parted.program.outputs if ends_here else ()
        modules = part.program.modules
        parameters = [*dict.fromkeys(p for module in modules for p in module.parameters())]
        buffers = [*dict.fromkeys(b for module in modules for b in module.buffers())]
        images, labels = input_bytes(self.model, self.shape)
        inputs = [*([] if first else [images]), *([labels] if ends_here else [])]
        scores = score_bytes(self.model, self.shape) if ends_here else 0
        device = DeviceStep(parameters, buffers, inputs, scores, self.shape, self.optimizer, self.rates)
        there = [x for feature in self._features.values() for x in feature if x is not None]
        known = [self._images, self._labels, *there, *parameters, *buffers]
        step = traced(lambda watcher: self._forward(part, plan, outputs, watcher), self.shape, known)
        return device.estimate(step, plan)

    def _forward(self, part: Part, plan: MemoryPlan, outputs: Sequence[str], watcher: Watcher) -> Tensor:
        """The loss of a part: that of `outputs`, if it is the last; else a number that depends on all it hands on."""
        given: dict[str, Feature] = {name: self._arriving(name) for name in part.program.inputs}
        found = part.run(given, plan, watcher)
        if outputs:
            scores = [(found[name] if name in found else self._arriving(name))[0] for name in outputs]
            return loss_of(scores, self._labels, self.shape.parameter_dtype)
        tensors = [x for feature in found.values() for x in feature if x is not None]
        del found
        return sum((_Departure.apply(tensors.pop()) for _ in range(len(tensors))), torch.zeros((), device="meta"))

    def _arriving(self, name: str) -> Feature:
        if name == "images":
            return self._images.to(self.shape.dtype), None
        data, statistics = self._features[name]
        return _Arrival.apply(data), None if statistics is None else _Arrival.apply(statistics)

    def _features_between_sections(self) -> dict[str, Feature]:
        """The features that sections hand on, on the meta device, from one forward pass."""
        here: dict[str, Feature] = {"images": (self._images.to(self.shape.dtype), None)}
        plan, trained = MemoryPlan(), False
        with torch.no_grad(), using(backend_of(self.shape.device).on_shapes(self.shape.device)):
            for part in self.model.parted_program(plan, self.sections[:-1]).parts:
                found = part.run({name: here[name] for name in part.program.inputs}, plan, Workspace())
                trained = trained or any(p.requires_grad for p in part.program.parameters()[1])
                for name, (data, statistics) in found.items():
                    here[name] = (
                        data.detach().requires_grad_(trained),
                        None if statistics is None else statistics.detach().requires_grad_(trained),
                    )
        del here["images"]
        return here


class _Arrival(torch.autograd.Function):
    """Copy of a tensor of another device; its gradient lies there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        return None


class _Departure(torch.autograd.Function):
    """Copy of a tensor that lies on another device; its gradient comes back to this one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.like = x.shape, x.stride(), x.dtype
        return torch.empty((), device=x.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        shape, stride, dtype = ctx.like
        return torch.empty_strided(shape, stride, dtype=dtype, device=grad.device)
