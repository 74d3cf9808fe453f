"""A training step on shapes alone: its memory and its kernels, without running them."""

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .. import ops
from ..lean import MemoryPlan, Workspace
from ..lean.arena import Placement, Recording
from ..lean.joint_batch import groups_to_share
from ..lean.stages import ContextStage, DenseBlockStage, ResidualStage, Stage, TransitionUpStage
from ..lean.workspace import Phase
from ..ops.backend import backend_of, using
from ..ops.cost import Cost
from .caching_allocator import GRANULARITY
from .lean_model import LeanModel
from .live_tensors import LiveTensors

#: Stages that compute a section of the encoder.
SECTION_STAGES = (DenseBlockStage, ResidualStage)


@dataclass
class Moment:
    """A phase of one stage of a step: workspace bytes in use at its start and at its peak; the costs of its calls."""

    stage: Stage | None
    """None: between stages, or outside the lean program."""
    phase: Phase
    start: int
    peak: int
    costs: list[Cost] = field(default_factory=list)

    @property
    def key(self) -> object:
        """The same for all phases of a stage."""
        return None if self.stage is None else (type(self.stage), self.stage.writes)


@dataclass(frozen=True)
class Trace:
    """A training step.

    The first moment covers the time before the first stage; the number of moments does not depend on the plan.
    """

    moments: list[Moment]
    placements: dict[Hashable, Placement]
    """Places of the workspace's maps: see Workspace.expect."""
    kept: dict[str, int]
    """Bytes that forward leaves in the workspace for backward, by the feature written by the stage that took them."""
    tensors: int
    """Most bytes in torch's own tensors at once: outputs, gradients, vectors."""
    events: list[tuple[int, int]]
    """Torch's own tensors as they come and go: see LiveTensors. The last to go are the gradients of parameters."""
    events_of_step: int
    """Number of the events before the gradients go."""

    @property
    def workspace(self) -> int:
        """Bytes that the workspace takes."""
        return max((placement.size for placement in self.placements.values()), default=0)

    @property
    def costs(self) -> list[Cost]:
        """Costs of all moments."""
        return [cost for moment in self.moments for cost in moment.costs]


def costs_by_section(traced: Trace) -> dict[str, list[Cost]]:
    """Costs of calls by section, and in "transitions up"."""
    costs: dict[str, list[Cost]] = {}
    for moment, owner in zip(traced.moments, owners(traced)):
        name = "transitions up" if isinstance(moment.stage, TransitionUpStage) else owner
        if name is not None:
            costs.setdefault(name, []).extend(moment.costs)
    return costs


def owners(traced: Trace) -> list[str | None]:
    """Section to which each moment belongs; a section includes the stages that lead to it, its layers, and its readers.

    The context layer counts as a section. An average pooling between two sections belongs to the one that it reads.
    """
    blocks = {m.stage.writes for m in traced.moments if isinstance(m.stage, SECTION_STAGES)}
    owner_of_stage: dict[object, str | None] = {}
    current = None
    for moment in traced.moments:
        if moment.phase is not Phase.FORWARD or moment.stage is None:
            continue
        others = blocks.intersection(moment.stage.reads).difference({moment.stage.writes})
        of_its_own = isinstance(moment.stage, (ContextStage, ResidualStage))  # whatever it reads
        if of_its_own or (moment.stage.writes in blocks and not others):
            current = moment.stage.writes
        elif not others:
            current = None
        owner_of_stage[moment.key] = current
    return [owner_of_stage.get(moment.key) for moment in traced.moments]


@dataclass(frozen=True)
class StepShape:
    """Shape and types of a training step's input.

    With a 16-bit dtype, images and parameters are float32 and the step is in a region of torch.autocast.
    """

    batch: int
    height: int
    width: int
    dtype: torch.dtype
    device: torch.device

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        return self.batch * self.height * self.width

    @property
    def parameter_dtype(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32


def on_meta(model: LeanModel, dtype: torch.dtype) -> LeanModel:
    """Copy of `model` without memory, with floating-point tensors of `dtype`."""
    memo = groups_to_share(model.modules())
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta", dtype=dtype)
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        kind = dtype if buffer.is_floating_point() else buffer.dtype
        memo[id(buffer)] = torch.empty_like(buffer, device="meta", dtype=kind)
    return copy.deepcopy(model, memo)


def trace(model: LeanModel, shape: StepShape, plan: MemoryPlan, whole: bool = True) -> Trace:
    """Traces one training step of `model`, which is on the meta device, with labels of uint8.

    It runs forward, loss and backward as on `shape.device`. While it runs as on CUDA, no other thread launches CUDA
    kernels. Without `whole` it finds only the moments, in less time.
    """
    images, labels = inputs_on_meta(model, shape)
    tensors = [images, labels, *model.parameters(), *model.buffers()]
    try:
        return traced(_step(model, images, labels, shape, plan), shape, tensors, whole)
    finally:
        model.zero_grad(set_to_none=True)


def traced(
    forward: Callable[["Watcher"], Tensor], shape: StepShape, known: Sequence[Tensor], whole: bool = True
) -> Trace:
    """Traces a step on the meta device whose loss is `forward` of a workspace.

    known: the tensors that are there before the step; gradients of theirs go with the trace. `whole` is as in `trace`.
    """
    if not whole:
        watcher = Watcher(None)
        _run(forward, shape, watcher, None)
        return Trace(watcher.moments, {}, {}, 0, [], 0)
    granularity = 1 if shape.device.type == "cpu" else GRANULARITY
    tensors = LiveTensors(known, granularity)
    watcher = Watcher(tensors)
    _run(forward, shape, watcher, tensors)
    events_of_step = len(tensors.events)
    for tensor in known:
        tensor.grad = None
    return Trace(watcher.moments, watcher.placements(), watcher.kept, tensors.most, tensors.events, events_of_step)


def placements(model: LeanModel, shape: StepShape, plan: MemoryPlan) -> dict[Hashable, Placement]:
    """Places of the maps of one training step of `model`, which is on the meta device: see Workspace.expect.

    It is found as by `trace`, in less time.
    """
    watcher = Watcher(None)
    _run(_step(model, *inputs_on_meta(model, shape), shape, plan), shape, watcher, None)
    model.zero_grad(set_to_none=True)
    return watcher.placements()


def inputs_on_meta(model: LeanModel, shape: StepShape) -> tuple[Tensor, Tensor]:
    """Images and labels on the meta device."""
    images = torch.empty(shape.batch, model.in_channels, shape.height, shape.width, device="meta")
    labels = torch.empty(shape.batch, shape.height, shape.width, dtype=torch.uint8, device="meta")
    return images.to(shape.parameter_dtype), labels


def _step(
    model: LeanModel, images: Tensor, labels: Tensor, shape: StepShape, plan: MemoryPlan
) -> Callable[["Watcher"], Tensor]:
    model.zero_grad(set_to_none=True)

    def forward(watcher: Watcher) -> Tensor:
        return loss_of(model.lean_scores(images.to(shape.dtype), plan, watcher), labels, shape.parameter_dtype)

    return forward


def _run(
    forward: Callable[["Watcher"], Tensor], shape: StepShape, watcher: "Watcher", tensors: LiveTensors | None
) -> None:
    """Runs one step under the eyes of `watcher` and `tensors`; the parameters have their gradients then."""
    with ExitStack() as stack:
        backend = stack.enter_context(using(backend_of(shape.device).on_shapes(shape.device)))
        stack.enter_context(backend.observed_by(watcher.saw))
        stack.enter_context(tensors or nullcontext())
        loss = forward(watcher)
        watcher.enter_loss()
        if loss.requires_grad:
            loss.backward()


def loss_of(scores: Sequence[Tensor], labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Loss like models.LadderLoss; it casts the scores as torch.autocast, which the meta device lacks, would."""
    first, *others = (ops.upsample_cross_entropy(each.to(dtype), labels) for each in scores)
    return sum(others, first)


class Watcher(Workspace):
    """Workspace that records the memory and the kernels of each stage."""

    def __init__(self, tensors: LiveTensors | None) -> None:
        super().__init__()
        self.moments = [Moment(None, Phase.FORWARD, 0, 0)]
        self.kept: dict[str, int] = {}
        self._tensors = tensors
        self._takers: dict[tuple[int, int], Moment] = {}
        self._recordings: list[tuple[Hashable, Recording | None]] = []

    def enter(self, stage: Hashable, phase: Phase) -> None:
        assert isinstance(stage, Stage)
        self.moments.append(Moment(stage, phase, self.in_use, self.in_use))

    def enter_loss(self) -> None:
        recordings = [each for _, each in (*self._recordings, self.recording)]
        for (recording, number), moment in self._takers.items():
            each = recordings[recording]
            assert each is not None, "what is taken in a step is recorded"
            if each.spans[number][1] == math.inf:
                name = "" if moment.stage is None else moment.stage.writes
                self.kept[name] = self.kept.get(name, 0) + each.sizes[number]
        self.moments.append(Moment(None, Phase.BACKWARD, self.in_use, self.in_use))

    def saw(self, kernel: str, cost: Cost) -> None:
        self.moments[-1].costs.append(cost)

    def begin(self, key: Hashable, device: torch.device, spread: bool = True) -> None:
        self._recordings.append(self.recording)
        super().begin(key, device, spread)

    def take(self, like: Tensor, n: int, c: int, h: int, w: int, *, spread: bool = False) -> Tensor:
        with nullcontext() if self._tensors is None else self._tensors.paused():
            tensor = super().take(like, n, c, h, w, spread=spread)
        moment = self.moments[-1]
        _, recording = self.recording
        if recording is not None:
            self._takers[len(self._recordings), len(recording.sizes) - 1] = moment
        moment.peak = max(moment.peak, self.in_use)
        return tensor

    def placements(self) -> dict[Hashable, Placement]:
        """Placement of the maps of each program's steps."""
        recordings = [*self._recordings, self.recording]
        return {
            key: Placement.of(recording) for key, recording in recordings if recording is not None and recording.sizes
        }
