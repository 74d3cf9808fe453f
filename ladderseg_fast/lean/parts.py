"""A program in parts, each of which runs on a device of its own.

A cut lies between two stages. Each part is a Program and, to autograd, a function: its inputs are the features that
earlier parts have written and it reads, its outputs those of its own that later parts read. Between two parts a feature
is copied from device to device, and backward its gradient is copied back. So stages know nothing of devices. Each part
has the workspace and, on GPUs, the recorded steps of its device; autograd itself keeps the order of the devices'
streams. The gradients of the last part's parameters are ready before the first part's backward begins.

Cutting changes no bit of any result:

- With a feature go the statistics of its channels, if the stage that wrote it has computed them in passing.
- Batch norms defer the correction of their input's gradient (ALGORITHMS.md section 4), so that it is applied once for
  all readers. If readers of one feature are in both parts, the correction of the later part's readers goes back beside
  the gradient, and the part that wrote the feature applies all of it. (Those of a batch that several processes share
  are applied in each part: their mean is another.)
- A feature that is read on both sides of a cut, or that its own part keeps for backward, exists on both devices.

A transition-up that recomputes the projection of its skip connection must be in the same part as the dense block that
this reads; elsewhere it must keep the projection.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .plan import MemoryPlan
from .program import Program, run_part
from .stages import HandOnStage, Stage
from .workspace import Workspace

#: A feature [N, C, H, W] between two parts, and its statistics as run_part returns them.
Feature = tuple[Tensor, Tensor | None]


class PartedProgram:
    """The parts of `program`, cut before the stages with the numbers `cuts`, which ascend.

    Attributes:
        parts: the parts in the order of the forward pass.

    Raises:
        ValueError: a feature is written or recomputed on both sides of a cut.
    """

    def __init__(self, program: Program, cuts: Sequence[int]) -> None:
        self.program = program
        bounds = [0, *cuts, len(program.stages)]
        slices = [program.stages[start:stop] for start, stop in zip(bounds, bounds[1:])]
        self.parts: list[Part] = []
        handed_on: frozenset[str] = frozenset()
        for i, stages in enumerate(slices):
            later = _read([stage for others in slices[i + 1 :] for stage in others])
            part = _part(program, stages, [*later], handed_on)
            handed_on |= part.handed_on
            self.parts.append(part)
            _check_apart(stages, [stage for others in slices[i + 1 :] for stage in others])

    def run(
        self,
        inputs: Sequence[Tensor],
        devices: Sequence[torch.device],
        plan: MemoryPlan,
        workspaces: Sequence[Workspace],
    ) -> tuple[Tensor, ...]:
        """Runs the parts on `inputs` [N, C, H, W], which are on the first device; differentiable once.

        The parameters of each part must be on its device. There is a device and a workspace for each part. The outputs
        are on the last device.

        Raises: as program.run.
        """
        here: dict[str, Feature] = {name: (x, None) for name, x in zip(self.program.inputs, inputs, strict=True)}
        for i, (part, device, workspace) in enumerate(zip(self.parts, devices, workspaces, strict=True)):
            later = {name for each in self.parts[i + 1 :] for name in each.program.inputs}
            given = {}
            for name in part.program.inputs:
                feature = here[name] if name in later else here.pop(name)
                given[name] = feature if i == 0 else _carried(feature, device)
                del feature
            here |= part.run(given, plan, workspace)
        last = self.parts[-1].program.outputs
        outputs = self.program.outputs
        return tuple((here[name] if name in last else _carried(here[name], devices[-1]))[0] for name in outputs)


@dataclass
class Part:
    """A part of a program.

    program: the part, as if no input came with statistics.
    handed_on: features that the part itself needs in backward, and hands on as copies.
    """

    program: Program
    handed_on: frozenset[str]
    defers: frozenset[str]
    """Inputs whose correction goes back to the part that wrote them."""
    _variants: dict[tuple[str, ...], Program] = field(default_factory=dict)

    def run(self, given: dict[str, Feature], plan: MemoryPlan, workspace: Workspace) -> dict[str, Feature]:
        """Runs the part on its inputs, by name; empties `given`. Returns the outputs by the names they have outside."""
        known = {name: statistics for name, (_, statistics) in given.items() if statistics is not None}
        program = self.with_statistics(tuple(known))
        maps = [given.pop(name)[0] for name in program.inputs]
        outputs, statistics = run_part(program, maps, list(known.values()), plan, workspace)
        by_name = dict(zip(program.statistics_out, statistics))
        return {self.name_outside(name): (x, by_name.get(name)) for name, x in zip(program.outputs, outputs)}

    def with_statistics(self, names: tuple[str, ...]) -> Program:
        """The part if the inputs `names` come with statistics."""
        if names not in self._variants:
            deferred = self.defers.intersection(names)
            self._variants[names] = replace(self.program, statistics_in=names, deferred=deferred)
        return self._variants[names]

    def name_outside(self, output: str) -> str:
        """The feature that an output is, or is a copy of."""
        return output.removesuffix(_COPY)


#: What the name of a feature's copy for other parts ends with.
_COPY = " handed on"


def _part(program: Program, stages: Sequence[Stage], later: Sequence[str], handed_on: frozenset[str]) -> Part:
    """The part of these stages; `later`: what later parts read; `handed_on`: features handed on by earlier parts."""
    own = list(dict.fromkeys(stage.writes for stage in stages))
    inputs = tuple(name for name in _read(stages) if name not in own)
    recomputed = program.recomputed.intersection(own)
    whole = Program(stages, inputs, (), recomputed)
    kept = {*whole.kept(), *recomputed}
    read_later = [name for name in own if name in later]
    copied = [name for name in read_later if name in kept]
    names = {name: name + _COPY if name in copied else name for name in read_later}
    outputs = tuple(names.get(name, name) for name in own if name in names or name in program.outputs)
    copies = [HandOnStage(name, names[name]) for name in copied]
    part = Program([*stages, *copies], inputs, outputs, recomputed, statistics_out=tuple(names.values()))
    return Part(part, frozenset(copied), handed_on.intersection(inputs))


def _read(stages: Iterable[Stage]) -> dict[str, None]:
    """The features that stages read, forward or backward."""
    return dict.fromkeys(name for stage in stages for name in (*stage.reads, *stage.keeps))


def _check_apart(stages: Sequence[Stage], later: Sequence[Stage]) -> None:
    both = {stage.writes for stage in stages}.intersection(stage.writes for stage in later)
    if both:
        raise ValueError(f"a cut must lie between sections: {min(both)} is written on both sides")


def _carried(feature: Feature, device: torch.device) -> Feature:
    """Copies of both tensors on `device`."""
    data, statistics = feature
    return _Carry.apply(data, device), None if statistics is None else _Carry.apply(statistics, device)


class _Carry(torch.autograd.Function):
    """Copy on another device; Tensor.to makes none if a device stands for two, and keeps its own gradient's graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, device: torch.device) -> Tensor:
        ctx.source = x.device
        ctx.set_materialize_grads(False)
        return x.to(device, copy=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        return None if grad is None else grad.to(ctx.source, copy=True), None
