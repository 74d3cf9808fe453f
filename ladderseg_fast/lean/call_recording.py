"""One call of a program that is recorded, or that repeats a recorded step."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from .. import _core
from ..ops import autocast
from ..ops.arguments import Norm
from ..ops.backend import Backend, backend_of
from .batch_norm import BoundNorm
from .feature import Feature
from .passes import ParameterKey
from .plan import MemoryPlan
from .recorded_step import RecordedPass, RecordedStep
from .recorder import Recorder, View, is_dense
from .recordings import Entry, Finished, Kept, KeptNorm
from .saved_tensors import SavedKinds
from .step_facts import (
    FrozenFacts,
    ProgramOfStages,
    addresses_of,
    facts_of_backward,
    facts_of_forward,
    is_usual,
    layout_of,
)
from .workspace import Arena, Workspace

Tensors = tuple[Tensor | None, ...]
Gradients = tuple[Tensor | None, ...]

#: Recordings that are begun of steps with the same facts: some are never finished, for lack of a backward pass.
_MOST_ATTEMPTS = 3


def _increments_several() -> bool:
    """Whether increment_version takes several tensors: not in older releases of torch."""
    try:
        torch.autograd.graph.increment_version([])
    except (RuntimeError, TypeError):
        return False
    return True


_INCREMENTS_SEVERAL = _increments_several()


class ProgramCall(Protocol):
    """The state of a call that its forward pass leaves for backward."""

    @property
    def program(self) -> ProgramOfStages: ...

    plan: MemoryPlan
    workspace: Workspace
    like: Tensor
    parameter_keys: Sequence[ParameterKey]
    norms: dict[nn.Module, BoundNorm]
    features: dict[str, Feature]
    bottlenecks: dict[nn.Module, Tensor]
    kept_bottlenecks: list[nn.Module]
    shapes: dict[str, torch.Size]


def recording_of(
    call: ProgramCall, tensors: Sequence[Tensor], keep: bool, hooked: bool | None
) -> "CallRecording | CallRepetition | None":
    """Returns what records or repeats a call on `tensors`, inputs and parameters; None if it is only interpreted.

    Args:
        keep: whether a backward pass may follow.
        hooked: whether torch.autograd.graph.saved_tensors_hooks are active; None if unknown.
    """
    workspace, device = call.workspace, call.like.device
    backend = backend_of(device)
    if not workspace.repeats_steps or not is_usual(backend, keep):
        return None
    if (keep and hooked is not False) or any(map(_is_replica, call.program.modules[:1])):
        return None
    try:
        buffer_keys, buffers = call.program.buffers()
        facts = facts_of_forward(
            call.program, call.parameter_keys, call.plan, call.like, keep, backend, tensors, buffer_keys, buffers
        )
        entry, new = workspace.recordings.find(facts)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None  # the modules are in a state that interpreting reports, or that cannot be compared
    if new or entry.failure is not None:
        return None
    if entry.finished is not None:
        try:
            arena = workspace.take_arena(entry.finished.step, entry.finished.step.size, device)
        except torch.cuda.OutOfMemoryError:  # single maps may still find places between other memory
            entry.failure, entry.finished = "the device has no block of memory for the step", None
            return None
        return (
            None if arena is None else CallRepetition(entry, entry.finished, arena, backend, buffers, facts.addresses)
        )
    if entry.attempts >= _MOST_ATTEMPTS or backend.is_capturing(device):
        return None
    entry.attempts += 1
    return CallRecording(entry, backend, buffers)


def _is_replica(module: nn.Module) -> bool:
    """Whether torch.nn.DataParallel has made the module for one step; a recording would keep its parameters alive."""
    return "_is_replica" in vars(module)


def _increment_versions(tensors: list[Tensor]) -> None:
    if _INCREMENTS_SEVERAL:
        torch.autograd.graph.increment_version(tensors)
    else:
        for tensor in tensors:
            torch.autograd.graph.increment_version(tensor)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


class CallRecording:
    """A call that is interpreted and recorded. The call holds it, so it must not hold the call."""

    def __init__(self, entry: Entry, backend: Backend, buffers: list[Tensor]) -> None:
        self._entry, self._backend, self._buffers = entry, backend, buffers
        self._recorder = Recorder()
        self._input_blocks: list[int] = []
        self._parameter_blocks: list[int] = []
        self._parameter_addresses: list[int] = []
        self._version_steps: list[tuple[int, int]] = []
        self._kept: Kept | None = None
        self._passes: list[RecordedPass] = []

    def forward(
        self, call: ProgramCall, tensors: Sequence[Tensor], keep: bool, interpret: Callable[[], Tensors]
    ) -> Tensors:
        """Interprets and records the forward pass on inputs and parameters."""
        recorder = self._recorder
        count = call.program.given
        recorder.check_apart([*tensors, *self._buffers])
        blocks = recorder.add_tensors([*tensors, *self._buffers])
        self._input_blocks, self._parameter_blocks = blocks[:count], blocks[count : len(tensors)]
        self._parameter_addresses = [tensor.data_ptr() for tensor in tensors[count:]]
        versions = [_version(buffer) for buffer in self._buffers]
        with recorder.recording():
            outputs = interpret()
        call.workspace.recordings.counts["recorded"] += 1
        results = self._results(outputs)
        writes = recorder.writes()
        for i, (buffer, block) in enumerate(zip(self._buffers, blocks[len(tensors) :])):
            grown = _version(buffer) - versions[i] - writes[block]
            if grown > 0:
                self._version_steps.append((i, grown))
        if torch.is_inference_mode_enabled() and any(module.training for module in call.norms):
            recorder.fail("batch norms are trained in inference mode")
        recorder.forward_events = recorder.launches.events
        self._passes.append(RecordedPass(recorder, blocks, results))
        if keep:
            self._kept = self._kept_views(call)
        if recorder.failure is not None or self._kept is None:
            self._end([], {}, None)
            return outputs
        kept = list(self._kept.blocks())
        if any(view is not None and view.block in kept for view in results):
            recorder.fail("an output is read by backward")
        recorder.launches.forget_blocks_except([*blocks[: len(tensors)], *kept])
        return outputs

    def backward(
        self,
        call: ProgramCall,
        saved: list[Tensor],
        wanted: Sequence[bool],
        grads: Sequence[Tensor | None],
        final: bool,
        interpret: Callable[[list[Tensor]], Gradients],
    ) -> Gradients:
        """Interprets the backward pass on parameters and maps, `saved`, and records it if it is usual.

        final: whether no other backward pass of the call follows.
        """
        recorder, counts = self._recorder, call.workspace.recordings.counts
        count = len(self._parameter_blocks)
        usual = final and is_usual(self._backend) and not self._backend.is_capturing(call.like.device)
        same = [tensor.data_ptr() for tensor in saved[:count]] == self._parameter_addresses
        if recorder.failure is not None or not usual or not same or len(self._passes) != 1:
            recorder.fail("backward is not usual")  # for this call
            counts["interpreted"] += 1
            return interpret(saved)
        with autocast.disabled(call.like.device):  # it would be among the dispatch keys, and nothing depends on it
            facts = facts_of_backward(self._backend, wanted, saved[:count], grads).frozen()
        present = [grad for grad in grads if grad is not None]
        recorder.check_apart([*saved, *present])
        grad_blocks = recorder.add_tensors(present)
        with recorder.recording():
            gradients = interpret(saved)
        counts["recorded"] += 1
        results = self._results(gradients)
        kept = [] if self._kept is None else list(self._kept.blocks())
        spans = recorder.launches.spans
        needed = {
            i: block
            for i, block in enumerate(self._input_blocks)
            if block in kept or spans[block][1] >= recorder.forward_events
        }
        given = [*self._parameter_blocks, *needed.values(), *grad_blocks]
        self._passes.append(RecordedPass(recorder, given, results))
        self._end(kept, needed, facts)
        return gradients

    def _end(self, kept: Sequence[int], needed_inputs: dict[int, int], backward_facts: FrozenFacts | None) -> None:
        recorder, entry = self._recorder, self._entry
        if recorder.failure is not None:
            entry.failure = recorder.failure
            return
        step = RecordedStep(recorder, self._passes, kept)
        entry.finished = Finished(step, self._version_steps, self._kept, needed_inputs, backward_facts)

    def _results(self, tensors: Sequence[Tensor | None]) -> list[View | None]:
        """Places of the tensors that a pass returns, which repeating it allocates anew: each the whole of a block."""
        recorder = self._recorder
        views = [None if tensor is None else recorder.view(tensor) for tensor in tensors]
        blocks = [view.block for view in views if view is not None]
        sizes = recorder.launches.block_bytes
        whole = all(
            view.offset == 0 and is_dense(tensor) and tensor.nbytes == sizes[view.block]
            for tensor, view in zip(tensors, views)
            if view is not None and tensor is not None
        )
        if not whole or len(set(blocks)) < len(blocks) or recorder.given.intersection(blocks):
            recorder.fail("a result shares its memory")
        return views

    def _kept_views(self, call: ProgramCall) -> Kept:

        def views(tensors: Sequence[Tensor]) -> list[View]:
            found = [self._recorder.view(tensor) for tensor in tensors]
            return [view for view in found if view is not None]

        norms = {}
        for module, bound in call.norms.items():
            vectors = views([bound.norm.mean, bound.norm.scale, bound.norm.shift, bound.invstd])
            norms[module] = KeptNorm(vectors, bound.positions, bound.batch_statistics)
        features = views([feature.data for feature in call.features.values()])
        return Kept(features, views([*call.bottlenecks.values()]), [*call.bottlenecks], norms, dict(call.shapes))


class CallRepetition:
    """A call that repeats a recorded step. The call holds it, so it must not hold the call."""

    def __init__(
        self,
        entry: Entry,
        finished: Finished,
        arena: Arena,
        backend: Backend,
        buffers: list[Tensor],
        addresses: _core.Addresses,
    ) -> None:
        """addresses: those of inputs, parameters and buffers."""
        self._entry, self._finished, self._backend = entry, finished, backend
        self._buffers, self._addresses = buffers, addresses
        self._arena: Arena | None = arena
        self._made: dict[int, Tensor] = {}
        self._needed_layouts: list[object] = []

    def forward(self, call: ProgramCall, tensors: Sequence[Tensor]) -> Tensors:
        """Repeats the forward pass on inputs and parameters."""
        outputs = self._repeat(call, 0, [*tensors, *self._buffers], self._addresses)
        _increment_versions([self._buffers[i] for i, steps in self._finished.version_steps for _ in range(steps)])
        self._buffers = []
        if self._finished.kept is None:
            self._arena = None
        else:
            call.shapes = self._finished.kept.shapes
            self._needed_layouts = [layout_of(tensors[number]) for number in self._finished.needed_inputs]
        return tuple(outputs)

    def kinds(self, saved: Sequence[Tensor]) -> SavedKinds:
        """Kinds that the tensors saved for backward must have; the same in all repetitions."""
        if self._finished.kinds is None:
            self._finished.kinds = SavedKinds(saved, repeated=True)
        return self._finished.kinds

    def inputs_to_save(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs that backward reads."""
        return [inputs[number] for number in self._finished.needed_inputs]

    def backward(
        self,
        call: ProgramCall,
        saved: list[Tensor],
        wanted: Sequence[bool],
        grads: Sequence[Tensor | None],
        final: bool,
        interpret: Callable[[list[Tensor]], Gradients],
    ) -> Gradients:
        """Repeats the backward pass on `saved`, parameters and inputs; interprets it if it is another than recorded.

        final: whether no other backward pass of the call follows: repeating it destroys what forward has left.
        """
        assert self._arena is not None, "the pass before was the last"
        usual = final and is_usual(self._backend) and backend_of(call.like.device) is self._backend
        expected = self._finished.backward_facts
        same = usual and expected is not None and self._has_facts(expected, call, saved, wanted, grads)
        if same:
            given = [*saved, *(grad for grad in grads if grad is not None)]
            gradients = self._repeat(call, 1, given, addresses_of(given))
            saved.clear()
        else:
            if usual and self._entry.finished is self._finished:
                self._entry.finished = None  # later steps are like this one: record one of them
            call.workspace.recordings.counts["interpreted"] += 1
            gradients = list(interpret(self._materialised(call, saved)))
        if final:
            self._arena = None
            self._made.clear()
        return tuple(gradients)

    def _has_facts(
        self,
        expected: FrozenFacts,
        call: ProgramCall,
        saved: Sequence[Tensor],
        wanted: Sequence[bool],
        grads: Sequence[Tensor | None],
    ) -> bool:
        """Whether a backward pass has these facts, and finds the inputs as they were."""
        count = len(call.parameter_keys)
        if [*map(layout_of, saved[count:])] != self._needed_layouts:
            return False
        with autocast.disabled(call.like.device):
            return expected.are(facts_of_backward(self._backend, wanted, saved[:count], grads))

    def _repeat(
        self, call: ProgramCall, number: int, given: Sequence[Tensor], addresses: _core.Addresses
    ) -> list[Tensor | None]:
        device = call.like.device
        assert self._arena is not None
        with autocast.disabled(device):
            results = self._finished.step.repeat(
                number, given, addresses, self._arena, self._made, self._backend, device
            )
        call.workspace.recordings.counts["repeated"] += 1
        return results

    def _materialised(self, call: ProgramCall, saved: list[Tensor]) -> list[Tensor]:
        """Parameters and maps as an interpreted forward pass saves them; restores the call's state, empties `saved`."""
        finished, arena = self._finished, self._arena
        kept = finished.kept
        assert kept is not None and arena is not None
        count = len(call.parameter_keys)
        made = self._made | dict(zip(finished.needed_inputs.values(), saved[count:], strict=True))

        def tensors(views: Sequence[View]) -> list[Tensor]:
            return [finished.step.tensor(view, arena, made) for view in views]

        for module, norm in kept.norms.items():
            mean, scale, shift, invstd = tensors(norm.vectors)
            call.norms[module] = BoundNorm(Norm(mean, scale, shift), invstd, norm.positions, norm.batch_statistics)
        call.kept_bottlenecks = kept.bottleneck_keys
        all_tensors = [*saved[:count], *tensors(kept.features), *tensors(kept.bottlenecks)]
        saved.clear()
        return all_tensors
