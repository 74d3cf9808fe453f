"""The facts on which the launches of a step depend: all that Python and the core read, apart from tensors' values."""

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from ..ops.backend import Cuda
from .plan import MemoryPlan

if TYPE_CHECKING:
    from .program import Program

_read_norm = attrgetter("training", "momentum", "eps", "track_running_stats")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

#: Launchers choose kernels by the alignment of maps and weights to so many bytes.
_ALIGNMENT = 16


def is_usual(backend: Cuda) -> bool:
    """Whether nothing observes or changes what torch's operators and the kernels do."""
    return (
        backend.repeats_steps
        and not backend.observers
        and torch._C._len_torch_dispatch_stack() == 0
        and all(isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())
        and not torch.are_deterministic_algorithms_enabled()
        and not torch.is_anomaly_enabled()
    )


def norms_of(program: "Program") -> list[nn.BatchNorm2d]:
    """The batch norms of a program."""
    modules = dict.fromkeys(module for stage in program.stages for module in stage.modules)
    return [module for module in modules if isinstance(module, nn.BatchNorm2d)]


def buffers_of(norms: Sequence[nn.BatchNorm2d]) -> list[Tensor | None]:
    """The buffers of batch norms, three each."""
    return [getattr(norm, name) for norm in norms for name in _BUFFERS]


def facts_of_forward(
    program: "Program",
    plan: MemoryPlan,
    like: Tensor,
    keep: bool,
    backend: Cuda,
    tensors: Sequence[Tensor],
    norms: Sequence[nn.BatchNorm2d],
    buffers: Sequence[Tensor | None],
) -> list[Any]:
    """Facts of a forward pass on `tensors`, the inputs and parameters; to be compared with those of another step."""
    facts: list[Any] = [keep, like.dtype, like.device, plan, *_facts_of_settings(backend)]
    facts += [program.inputs, program.outputs, program.recomputed]
    for stage in program.stages:
        facts += [type(stage), vars(stage)]
    facts += map(_read_norm, norms)
    facts += map(facts_of_tensor, tensors)
    facts += [None if buffer is None else facts_of_tensor(buffer) for buffer in buffers]
    facts.append(len({id(buffer) for buffer in buffers if buffer is not None}))  # shared ones are refused
    return facts


def facts_of_backward(backend: Cuda, wanted: Sequence[bool], grads: Sequence[Tensor | None]) -> list[Any]:
    """Facts of the backward pass of a call whose forward pass has certain facts."""
    described = [None if grad is None else facts_of_tensor(grad) for grad in grads]
    return [tuple(wanted), *_facts_of_settings(backend), *described]


def facts_of_tensor(tensor: Tensor) -> tuple[Any, ...]:
    return (
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
        tensor.device,
        tensor.requires_grad,
        tensor.is_neg(),
        tensor.data_ptr() % _ALIGNMENT,
    )


def _facts_of_settings(backend: Cuda) -> tuple[Any, ...]:
    return backend, backend.may_round_to_tf32(), torch.is_inference_mode_enabled()
