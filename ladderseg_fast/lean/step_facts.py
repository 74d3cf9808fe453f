"""The facts on which the launches of a step depend: all that Python and the core read, apart from tensors' values."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from .. import _core
from ..ops import transforms
from ..ops.backend import Backend
from . import tensor_guards
from .joint_batch import BatchNorm, group_of
from .plan import MemoryPlan

_OF_NORMS = ("training", "momentum", "eps", "track_running_stats")

#: Launchers choose kernels by the alignment of maps and weights to so many bytes.
_ALIGNMENT = 16


class ProgramOfStages(Protocol):
    """A program.Program, as far as its facts go."""

    @property
    def stage_facts(self) -> list[object]: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def recomputed(self) -> frozenset[str]: ...
    @property
    def statistics_in(self) -> tuple[str, ...]: ...
    @property
    def statistics_out(self) -> tuple[str, ...]: ...
    @property
    def deferred(self) -> frozenset[str]: ...
    @property
    def given(self) -> int: ...
    @property
    def modules(self) -> list[nn.Module]: ...
    @property
    def norms(self) -> list[BatchNorm]: ...
    def buffers(self) -> tuple[tuple[tuple[nn.Module, str], ...], list[Tensor]]: ...


def is_usual(backend: Backend, keep: bool = True) -> bool:
    """Whether `backend` repeats passes, nothing observes or changes what they do, and facts can be compared.

    keep: passes that a backward pass may follow, and these.
    """
    return (
        backend.repeats(keep)
        and not backend.observers
        and torch._C._len_torch_dispatch_stack() == 0
        and all(isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())
        and not torch.are_deterministic_algorithms_enabled()
        and not torch.is_anomaly_enabled()
        and not transforms.are_active()
        and tensor_guards.are_available()
    )


class StepFacts:
    """The facts of one pass, to be compared with those of another.

    Attributes:
        addresses: those of the tensors.
    """

    def __init__(self, values: list[Any], tensors: list[Tensor]) -> None:
        self._values, self._tensors = values, tensors
        self.addresses = addresses_of(tensors)
        self._alignments = self.addresses.alignments(_ALIGNMENT)

    @property
    def has_twins(self) -> bool:
        """Whether a tensor occurs twice: frozen, such facts are not those of any pass."""
        return len(set(map(id, self._tensors))) < len(self._tensors)

    def frozen(self) -> "FrozenFacts":
        """The same facts, without the tensors."""
        return FrozenFacts(self._values, self._alignments, self._tensors)


class FrozenFacts:
    """The facts of a past pass."""

    def __init__(self, values: list[Any], alignments: bytes, tensors: Sequence[Tensor]) -> None:
        self._values, self._alignments = values, alignments
        # Reading the facts of all tensors in Python takes half a millisecond.
        self._guards = tensor_guards.guards_of(tensors)

    def are(self, facts: StepFacts) -> bool:
        """Whether `facts` are these; never if a tensor occurs twice."""
        same = facts._values == self._values and facts._alignments == self._alignments
        return same and self._guards.check(*facts._tensors)


def facts_of_forward(
    program: ProgramOfStages,
    parameter_keys: Sequence[tuple[nn.Module, str]],
    plan: MemoryPlan,
    like: Tensor,
    keep: bool,
    backend: Backend,
    tensors: Sequence[Tensor],
    buffer_keys: Sequence[tuple[nn.Module, str]],
    buffers: Sequence[Tensor],
) -> StepFacts:
    """Facts of a forward pass on `tensors`, the inputs and parameters, and the `buffers` of the batch norms.

    parameter_keys, buffer_keys: those of parameters and buffers, in order: a module may have lost one, and another have
        got one.
    """
    values: list[Any] = [keep, like.dtype, like.device, plan.key, *_facts_of_settings(backend)]
    values += [program.inputs, program.outputs, program.recomputed, parameter_keys, buffer_keys]
    values += [program.statistics_in, program.statistics_out, program.deferred]
    values += program.stage_facts
    values += _core.attributes(program.norms, _OF_NORMS)
    values += [group_of(norm, like.device) for norm in program.norms if isinstance(norm, nn.SyncBatchNorm)]
    return StepFacts(values, [*tensors, *buffers])


def facts_of_backward(
    backend: Backend, wanted: Sequence[bool], parameters: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> StepFacts:
    """Facts of the backward pass of a call whose forward pass has certain facts.

    parameters: those of the forward pass, perhaps elsewhere by now: autograd does not notice `weight.data = x`.
    """
    values: list[Any] = [tuple(wanted), *_facts_of_settings(backend), *(grad is None for grad in grads)]
    return StepFacts(values, [*parameters, *(grad for grad in grads if grad is not None)])


def addresses_of(tensors: list[Tensor]) -> _core.Addresses:
    """The addresses of tensors."""
    return _core.Addresses(Tensor.data_ptr, tensors)


def layout_of(tensor: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    """Alignment, size and strides."""
    return tensor.data_ptr() % _ALIGNMENT, tensor.size(), tensor.stride()


def _facts_of_settings(backend: Backend) -> tuple[Any, ...]:
    return backend, backend.may_round_to_tf32(), torch.is_inference_mode_enabled()
