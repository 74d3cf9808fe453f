"""A lean program: a list of stages that autograd sees as one function."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import _core
from ..ops import autocast
from ..ops.affine_correction import write
from ..ops.arguments import Correction
from ..ops.backend import backend_of, real_dtype
from ..ops.layout import pixel_major
from ..ops.transforms import refuse_transforms
from .bands import forward_in_bands
from .batch_norm import BoundNorm
from .call_recording import CallRecording, CallRepetition, recording_of
from .double_backward import refuse_double_backward
from .feature import Feature
from .joint_batch import BATCH_NORMS, NORM_BUFFERS, BatchNorm
from .opaque import opaque
from .passes import BackwardPass, ForwardPass, ParameterKey
from .plan import MemoryPlan
from .running_norms import RunningNorms
from .saved_tensors import SavedKinds
from .stages import Repeatable, Size, Stage
from .weights import PassWeights, WeightUse
from .workspace import Phase, Workspace


@dataclass(frozen=True)
class Program:
    """A sequence of `stages` from the features named `inputs` to the features named `outputs`.

    Backward recomputes the features `recomputed` instead of keeping them: their stages are Repeatable.

    A part of a larger program (parts.py) hands on more than maps, so that cutting changes no bit:

    statistics_in: inputs that come with the statistics of their channels.
    statistics_out: outputs that are returned with theirs, as far as the stages have computed them.
    deferred: inputs among `statistics_in` whose gradients are returned with the correction of their batch norms beside
        them, for the part that writes the feature to apply: as the gradient of the statistics. That of a joint batch,
        whose statistics are others, is applied before.
    """

    stages: Sequence[Stage]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    recomputed: frozenset[str] = frozenset()
    statistics_in: tuple[str, ...] = ()
    statistics_out: tuple[str, ...] = ()
    deferred: frozenset[str] = frozenset()

    @property
    def given(self) -> int:
        """Number of the tensors that a call gets besides parameters."""
        return len(self.inputs) + len(self.statistics_in)

    @cached_property
    def modules(self) -> list[nn.Module]:
        """The modules of all stages."""
        return list(dict.fromkeys(module for stage in self.stages for module in stage.modules))

    @cached_property
    def norms(self) -> list[BatchNorm]:
        """The batch norms among the modules."""
        return [module for module in self.modules if isinstance(module, BATCH_NORMS)]

    @cached_property
    def _parameters(self) -> _core.ModuleTensors:
        return _core.ModuleTensors("_parameters", self._keys)

    @cached_property
    def _keys(self) -> list[ParameterKey]:
        return [(module, name) for module in self.modules for name in ("weight", "bias")]

    @cached_property
    def _buffers(self) -> _core.ModuleTensors:
        keys = [(module, name) for module in self.norms for name in NORM_BUFFERS]
        return _core.ModuleTensors("_buffers", keys)

    def parameters(self) -> tuple[tuple[ParameterKey, ...], list[Tensor]]:
        """The parameters of all stages, as the modules hold them now, and their keys.

        The tuple of keys is the same object as at the last call, if the same modules have parameters.
        """
        return self._parameters.read()

    def buffers(self) -> tuple[tuple[ParameterKey, ...], list[Tensor]]:
        """The buffers of the batch norms in the same way."""
        return self._buffers.read()

    @cached_property
    def stage_facts(self) -> list[object]:
        """The class and the attributes of each stage."""
        return [fact for stage in self.stages for fact in (type(stage), vars(stage))]

    def given_parameters(self, given: Mapping[ParameterKey, Tensor]) -> dict[ParameterKey, Tensor]:
        """The parameters of all stages, out of those `given`."""
        return {key: given[key] for key in self._keys if key in given}

    def kept(self) -> list[str]:
        """The features whose values are kept for backward."""
        names = [name for stage in self.stages for name in stage.keeps if name not in self.recomputed]
        names += [name for feature in self.recomputed for name in self.sources(feature)]
        return list(dict.fromkeys(names))

    def writers(self, feature: str) -> list[Stage]:
        """The stages that write `feature`, in order."""
        return [stage for stage in self.stages if stage.writes == feature]

    def sources(self, feature: str) -> list[str]:
        """The other features that the stages writing `feature` read."""
        return [name for stage in self.writers(feature) for name in stage.reads if name != feature]

    def backward_weights(self) -> list[WeightUse]:
        """The weights that the stages' backward uses, in order."""
        return [use for stage in reversed(self.stages) for use in stage.backward_weights]

    def weights_again(self) -> list[WeightUse]:
        """The weights for what backward recomputes, in order."""
        writers = [stage for stage in self.stages if stage.writes in self.recomputed]
        features = reversed(list(dict.fromkeys(stage.writes for stage in writers)))
        return [use for feature in features for stage in self.writers(feature) for use in stage.forward_weights]

    def readable(self, feature: str, data: Tensor) -> Tensor:
        """The map `data` of `feature` as stages read it: pixel-major, unless they accept any strides."""
        any_strides = feature in self.inputs and all(s.any_strides for s in self.stages if feature in s.reads)
        return data if any_strides else pixel_major(data)

    def sizes(self, *inputs: Size) -> list[Size]:
        """Height and width of each output, from those of the inputs."""
        known = dict(zip(self.inputs, inputs, strict=True))
        for stage in self.stages:
            known[stage.writes] = stage.size(*(known[name] for name in stage.reads))
        return [known[name] for name in self.outputs]

    def reached(self, outputs: Collection[str]) -> tuple[set[str], set[nn.Module]]:
        """The features and modules on which these outputs depend."""
        features, modules = set(outputs), set[nn.Module]()
        for stage in reversed(self.stages):
            if stage.writes in features:
                features.update(stage.reads)
                modules.update(stage.modules)
        return features, modules

    def needed(self, wanted: set[ParameterKey], inputs: Sequence[str]) -> set[str]:
        """The features that depend on a wanted parameter or on one of these inputs."""
        needed = set(inputs)
        wanting = {module for module, _ in wanted}
        for stage in self.stages:
            if needed.intersection(stage.reads) or wanting.intersection(stage.modules):
                needed.add(stage.writes)
        return needed


_WHO = 'memory="lean"'
_WHO_BACKWARD = f"backward of {_WHO}"


def run(
    program: Program, inputs: Sequence[Tensor], plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> tuple[Tensor, ...]:
    """Runs `program` on `inputs` [N, C, H, W] and returns its outputs; differentiable once.

    The program is whole: it has no `statistics_in` and no `statistics_out`; `run_part` is for others.

    In a region of torch.autocast, features and outputs have the dtype of the region, whatever the inputs have. Sums,
    statistics and the gradients of float32 parameters stay float32. On the CPU torch.autocast has no effect, and a
    warning says so, unless it is to bfloat16 and the processor has AVX512-BF16.

    Raises:
        RuntimeError: forward-mode differentiation, a transform of torch.func, tracing or exporting; or tensors without
            memory of their own, such as fake ones.
        TypeError: the dtype of an input or parameter has no kernels on the device, or does not fit the first input's.
        ValueError: an input is empty or not a 4-d tensor; or one value per channel for batch norm in training mode.
    """
    outputs, _ = run_part(program, inputs, (), plan or MemoryPlan.default(inputs[0].device), workspace or Workspace())
    return outputs


def run_part(
    program: Program, inputs: Sequence[Tensor], statistics: Sequence[Tensor], plan: MemoryPlan, workspace: Workspace
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """Runs a program that may be a part of another, as `run` does.

    Args:
        statistics: for each of `program.statistics_in`, what the part that wrote it returned.

    Returns:
        The outputs; and for each of `program.statistics_out` a tensor [4, F] float64 of mean, biased variance and
        zeros, or None if its statistics are not known. Its gradient is the deferred correction, as
        Correction.vectors gives it.

    Raises: as `run`.
    """
    keys, parameters = program.parameters()
    inputs = [x.resolve_neg() for x in inputs]
    tensors = (*inputs, *statistics, *parameters)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    hooked = hooks_are_active() if keep else False
    call = Call.checked(program, plan, workspace, inputs, tensors, keys, keep, hooked)
    if keep:
        # Leads from the gradients back to the inputs even where only a pixel-major copy of an input is kept.
        link = sum(x[:0].sum() for x in inputs if x.requires_grad)
        results = _ProgramFunction.apply(call, link if isinstance(link, Tensor) else None, *tensors)
    else:
        with torch.no_grad():
            results = call.forward(tensors)
    count = len(program.outputs)
    return results[:count], results[count:]


def _check(program: Program, inputs: Sequence[Tensor], parameters: Sequence[Tensor], dtype: torch.dtype) -> None:
    first, first_name = inputs[0], program.inputs[0]
    backend = backend_of(first.device)
    supported, of_parameters = backend.dtypes, (real_dtype(dtype), backend.weight_dtype(dtype))
    for name, x in zip(program.inputs, inputs, strict=True):
        if x.dim() != 4 or x.numel() == 0:
            raise ValueError(f"{name} must be [N, C, H, W] and not empty, got shape {tuple(x.shape)}")
        if x.dtype not in supported:
            names = " or ".join(str(each).removeprefix("torch.") for each in supported)
            raise TypeError(f'{name} must be {names} with memory="lean" on {x.device}, got {x.dtype}')
        if x.dtype != first.dtype:
            raise TypeError(f"{first_name} is {first.dtype} but {name} is {x.dtype}")
        if x.device != first.device:
            raise ValueError(f"{first_name} is on {first.device} but {name} is on {x.device}")
    for parameter in parameters:
        if parameter.dtype not in of_parameters:
            raise TypeError(
                f"{first_name} is {first.dtype} and a parameter {parameter.dtype}, which must be {of_parameters[0]} "
                f"for features of {dtype}"
            )
        if parameter.device != first.device:
            raise ValueError(f"{first_name} is on {first.device} but a parameter is on {parameter.device}")


class Call:
    """One forward pass of a program, with the state that its backward passes need besides the saved tensors.

    recording: what records or repeats the call; None if it is only interpreted.
    hooked: whether torch.autograd.graph.saved_tensors_hooks see the maps that it saves; None if unknown.
    """

    def __init__(
        self,
        program: Program,
        plan: MemoryPlan,
        workspace: Workspace,
        parameter_keys: Sequence[ParameterKey],
        like: Tensor,
        keep: bool,
        hooked: bool | None,
    ) -> None:
        """like: any tensor of the dtype and device of the features; keep: whether a backward pass may follow."""
        self.program = program
        self.plan = plan
        self.workspace = workspace
        self.parameter_keys = parameter_keys
        self.like = like
        self.keep = keep
        self.hooked = hooked
        self.norms: dict[nn.Module, BoundNorm] = {}
        self.bottlenecks: dict[nn.Module, Tensor] = {}
        self.kept_bottlenecks: list[nn.Module] = []
        self.features: dict[str, Feature] = {}
        self.shapes: dict[str, torch.Size] = {}
        self.recording: CallRecording | CallRepetition | None = None

    @staticmethod
    def checked(
        program: Program,
        plan: MemoryPlan,
        workspace: Workspace,
        inputs: Sequence[Tensor],
        tensors: Sequence[Tensor],
        parameter_keys: Sequence[ParameterKey],
        keep: bool,
        hooked: bool | None,
    ) -> "Call":
        """A call on `tensors`: inputs, their statistics, and parameters.

        Raises: as `run`.
        """
        device = inputs[0].device
        like = torch.empty(0, dtype=autocast.feature_dtype(inputs[0].dtype, device), device=device)
        call = Call(program, plan, workspace, parameter_keys, like, keep, hooked)
        if backend_of(device).repeats(keep):
            call.recording = recording_of(call, tensors, keep, call.hooked)
        if not isinstance(
            call.recording, CallRepetition
        ):  # whose tensors are like those of a call that has passed here
            refuse_transforms(_WHO, tensors)
            _check(program, inputs, tensors[program.given :], like.dtype)
        return call

    def forward(self, tensors: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Runs the forward pass on inputs, their statistics, and parameters; leaves what `maps_to_save` gives.

        Returns the outputs, then what run_part returns for each of `statistics_out`.
        """
        recording = self.recording
        if isinstance(recording, CallRepetition):
            return recording.forward(self, tensors)
        if recording is not None:
            return recording.forward(self, tensors, self.keep, lambda: self._interpret_forward(tensors))
        self.workspace.recordings.counts["interpreted"] += 1
        return self._interpret_forward(tensors)

    def _interpret_forward(self, tensors: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        program, keep = self.program, self.keep
        count = len(program.inputs)
        maps = (x.to(self.like.dtype) for x in tensors[:count])
        features = {name: Feature(program.readable(name, x)) for name, x in zip(program.inputs, maps)}
        for name, statistics in zip(program.statistics_in, tensors[count:]):
            features[name].set_statistics(0, statistics[:2])
        parameters = dict(zip(self.parameter_keys, tensors[program.given :]))
        shapes = tuple(x.shape for x in tensors[:count])
        self.workspace.begin((shapes, self.like.dtype, keep, self.plan), self.like.device, self.plan.spread)
        weights = PassWeights(parameters, self.like, (use for stage in program.stages for use in stage.forward_weights))
        norms = RunningNorms(program.norms, parameters, self.like)
        step = ForwardPass(
            parameters, self.plan, self.workspace, self.like, weights, norms, features, program.outputs, keep
        )
        self.shapes = {name: feature.data.shape for name, feature in features.items()}
        kept = program.kept() if keep else []
        remaining = {*kept, *program.outputs}
        last_reader = {name: i for i, stage in enumerate(program.stages) for name in (*stage.reads, stage.writes)}
        with autocast.disabled(self.like.device):
            done = 0 if keep else forward_in_bands(program.stages, step)
            for i, stage in enumerate(program.stages):
                if i >= done:
                    self.workspace.enter(stage, Phase.FORWARD)
                    stage.forward(step)
                    self.shapes[stage.writes] = features[stage.writes].data.shape
                for name in [name for name, last in last_reader.items() if last == i]:
                    if name not in remaining:
                        features.pop(name, None)  # bands leave none of a map that they do not make in full
        if keep:
            self.norms = step.norms
            self.features = {name: features[name] for name in kept}
            self.bottlenecks = step.bottlenecks
        outputs = (features[name].data for name in program.outputs)
        return *outputs, *(_statistics(features[name]) for name in program.statistics_out)

    def kinds(self, saved: Sequence[Tensor]) -> SavedKinds:
        """Kinds that the tensors saved for backward, parameters and `maps_to_save`, must have."""
        if isinstance(self.recording, CallRepetition):
            return self.recording.kinds(saved)
        return SavedKinds(saved, repeated=False)

    def maps_to_save(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The maps that backward needs: features in the order of `Program.kept`, then bottlenecks.

        The call drops its own references, so that autograd alone holds the maps. After a repeated forward pass, they
        are those of the inputs that backward reads.
        """
        if isinstance(self.recording, CallRepetition):
            return self.recording.inputs_to_save(inputs)
        features, self.features = self.features, {}
        bottlenecks, self.bottlenecks = self.bottlenecks, {}
        self.kept_bottlenecks = list(bottlenecks)
        return [*(feature.data for feature in features.values()), *bottlenecks.values()]

    def backward(
        self, saved: list[Tensor], wanted: Sequence[bool], grads: Sequence[Tensor | None], final: bool
    ) -> tuple[Tensor | None, ...]:
        """Returns the `wanted` gradients of inputs and parameters; empties `saved`, parameters and `maps_to_save`.

        Saved maps may have other strides than in forward: torch.autograd.graph.saved_tensors_hooks may copy them.
        `final`: no other backward pass of this call follows.
        """
        if self.recording is None:
            self.workspace.recordings.counts["interpreted"] += 1
            return self._interpret_backward(saved, wanted, grads)
        interpret = partial(self._interpret_backward, wanted=wanted, grads=grads)
        return self.recording.backward(self, saved, wanted, grads, final, interpret)

    def _interpret_backward(
        self, saved: list[Tensor], wanted: Sequence[bool], grads: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        program = self.program
        count, parameter_count = program.given, len(self.parameter_keys)
        parameters = dict(zip(self.parameter_keys, saved[:parameter_count]))
        maps = iter(saved[parameter_count:])
        features = {name: Feature(program.readable(name, next(maps))) for name in program.kept()}
        bottlenecks = {conv: pixel_major(hidden) for conv, hidden in zip(self.kept_bottlenecks, maps, strict=True)}
        saved.clear()
        del maps
        wanted_keys = {key for key, want in zip(self.parameter_keys, wanted[count:]) if want}
        wanted_inputs = [name for name, want in zip(program.inputs, wanted) if want]
        needed = program.needed(wanted_keys, wanted_inputs)
        last_users = {name: stage for stage in reversed(program.stages) for name in stage.keeps}
        step = BackwardPass(
            parameters,
            self.plan,
            self.workspace,
            self.like,
            PassWeights(parameters, self.like, program.backward_weights()),
            features,
            self.shapes,
            last_users,
            self.norms,
            bottlenecks,
            wanted_keys,
            needed,
            PassWeights(parameters, self.like, program.weights_again()),
        )
        changed = {name for stage in program.stages for name in stage.reads}
        changed |= {stage.writes for stage in program.stages if stage.overwrites_gradient}
        for name, grad in zip(program.outputs, grads):
            if grad is not None:
                step.set_gradient(name, grad.to(self.like.dtype), shared=name in changed)
        for name, vectors in zip(program.statistics_out, grads[len(program.outputs) :]):
            if vectors is not None:
                correction = Correction.of_vectors(vectors, real_dtype(self.like.dtype))
                step.gradient_of(name).take_over(correction, None)
        self._run_backward(step)
        input_grads = [self._input_gradient(step, name) for name in program.inputs]
        statistics_grads = [self._deferred_vectors(step, name) for name in program.statistics_in]
        parameter_grads = [
            None if gradient is None else gradient.to(parameters[key].dtype)
            for key, gradient in ((key, step.parameter_gradients.get(key)) for key in self.parameter_keys)
        ]
        return *input_grads, *statistics_grads, *parameter_grads

    def _run_backward(self, step: BackwardPass) -> None:
        stages = self.program.stages
        creator = {stage.writes: i for i, stage in reversed(list(enumerate(stages)))}
        with autocast.disabled(self.like.device):
            for i, stage in reversed(list(enumerate(stages))):
                if stage.writes in step.feature_gradients:
                    self.workspace.enter(stage, Phase.AGAIN)
                    for name in self.program.recomputed.intersection(stage.keeps).difference(step.features):
                        self._make_again(step, name)
                    self.workspace.enter(stage, Phase.BACKWARD)
                    stage.backward(step)
                    if creator[stage.writes] == i:
                        step.drop_gradient(stage.writes)
                for name in stage.keeps:
                    step.done_with(name, stage)

    def _make_again(self, step: BackwardPass, name: str) -> None:
        for stage in self.program.writers(name):
            assert isinstance(stage, Repeatable)
            stage.forward_again(step)
        for source in self.program.sources(name):
            if source not in step.last_users:
                del step.features[source]

    def _input_gradient(self, step: BackwardPass, name: str) -> Tensor | None:
        gradient = step.feature_gradients.get(name)
        if gradient is None:
            return None
        value = gradient.corrected(0, gradient.data.shape[1], handed_on=name in self.program.deferred)
        return write(value, torch.empty_like(gradient.data))

    def _deferred_vectors(self, step: BackwardPass, name: str) -> Tensor | None:
        gradient = step.feature_gradients.get(name)
        correction = None if gradient is None or name not in self.program.deferred else gradient.to_hand_on()
        return None if correction is None else correction.vectors()


def _statistics(feature: Feature) -> Tensor | None:
    """Statistics of an output, as run_part returns them."""
    known = feature.known_statistics
    if known is None:
        return None
    statistics = torch.zeros((4, known.shape[1]), dtype=known.dtype, device=known.device)
    statistics[:2].copy_(known)
    return statistics


def hooks_are_active() -> bool | None:
    """Whether torch.autograd.graph.saved_tensors_hooks are active; None if torch, before 2.8, cannot tell."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return None if top is None else top(True) is not None


def graph_is_kept() -> bool | None:
    """Whether the backward pass at work keeps its graph for another one; None if torch, before 2.5, cannot tell."""
    keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return None if keeps_graph is None else keeps_graph()


def _is_final(ctx: Any) -> bool:
    """Whether `ctx` has let go of what it saved, since no other backward pass follows."""
    kept = graph_is_kept()
    if kept is not None:
        return not kept and not torch.is_grad_enabled()
    try:  # torch before 2.5; the error takes a tenth of a millisecond
        ctx.saved_tensors  # noqa: B018
    except RuntimeError:
        return not torch.is_grad_enabled()
    return False


def _copies(maps: list[Tensor]) -> list[Tensor]:
    """Copies all maps, each into memory of its own; empties `maps` one by one."""
    maps.reverse()
    return [maps.pop().clone() for _ in range(len(maps))]


class _ProgramFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, link: Tensor | None, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        outputs = call.forward(tensors)
        parameters = tensors[call.program.given :]
        maps = call.maps_to_save(tensors[: call.program.given])
        # Hooks may keep an alias of a map after its place in the workspace has been returned and taken again.
        if call.hooked:
            maps = _copies(maps)
        ctx.held = maps if call.hooked is None else []
        ctx.save_for_backward(link, *parameters, *maps)
        ctx.set_materialize_grads(False)
        ctx.call = call
        ctx.kinds = call.kinds((*parameters, *maps))
        return outputs

    @staticmethod
    @opaque
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        link, *saved = ctx.saved_tensors
        dependencies = (link, *saved, *grads) if torch.is_grad_enabled() else ()  # create_graph=True
        unpacked, saved = saved, ctx.kinds.checked(saved, _WHO_BACKWARD)
        held = ctx.held  # kept to the end if there are hooks
        if all(one is other for one, other in zip(reversed(held), reversed(unpacked))):
            held = ctx.held = []
        del unpacked
        refuse_transforms(_WHO_BACKWARD, grads)
        given = [None if grad is None else grad.resolve_neg() for grad in grads]
        ctx.maybe_clear_saved_tensors()  # frees kept features once read, unless retain_graph=True
        with torch.no_grad():
            final = ctx.call.recording is not None and _is_final(ctx)
            gradients = ctx.call.backward(saved, ctx.needs_input_grad[2:], given, final)
        if dependencies:
            gradients = refuse_double_backward(gradients, dependencies)
        return None, None, *gradients
