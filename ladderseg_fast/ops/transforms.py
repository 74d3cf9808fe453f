"""Refusal of torch's transforms that the kernels do not support: each raises an error instead of a wrong result.

Torch does not see what the kernels write. So a transform that observes only torch's own operators misses them: tracers
would record uninitialised buffers, forward-mode differentiation would find no tangents.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._C import _TorchDispatchModeKey as ModeKey
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.autograd import forward_ad
from torch.nn import Parameter

from .backend import backend_of, keeps_values_elsewhere

#: Modes in which operators are recorded, or run on shapes only.
_RECORDING_MODES = (ModeKey.FAKE, ModeKey.PROXY, ModeKey.FUNCTIONAL)

_INSTEAD = 'memory="plain" can'


def refuse_tangents(who: str, tensors: Iterable[Tensor | None]) -> None:
    """Refuses tensors with a tangent, which `who` would lose, and tensors tracked by torch.func.grad and the like.

    Raises:
        RuntimeError: one of `tensors` is such a tensor.
    """
    if torch.compiler.is_compiling():
        return  # only operators are compiled, and they refuse by themselves
    if forward_ad._current_level < 0 and torch._C._functorch.peek_interpreter_stack() is None:
        return
    for tensor in tensors:
        if tensor is None:
            continue
        inner = _unbatched(tensor)
        if forward_ad._current_level >= 0 and (
            inner is not tensor or forward_ad.unpack_dual(tensor).tangent is not None
        ):
            raise RuntimeError(
                f"{who} cannot be differentiated in forward mode (torch.func.jvp, torch.autograd.forward_ad): "
                'use memory="plain" or ladderseg_fast.ops.reference'
            )
        if torch._C._functorch.is_gradtrackingtensor(inner) and inner.requires_grad:
            raise RuntimeError(
                f"{who} cannot be differentiated by torch.func (grad, vjp, ...), only by torch.autograd: "
                'use that, memory="plain" or ladderseg_fast.ops.reference'
            )


def _unbatched(tensor: Tensor) -> Tensor:
    """Tensor inside torch.vmap's wrapper, which cannot be asked for tangents inside vmap."""
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def refuse_transforms(who: str, tensors: Iterable[Tensor | None]) -> None:
    """Refuses to run `who` unless `tensors` hold their values and torch's operators are not being recorded.

    Raises:
        RuntimeError: `who` would be differentiated in forward mode, transformed by torch.func, or traced; or `tensors`
            include fake tensors or others without memory of their own.
    """
    if torch.jit.is_tracing():
        raise RuntimeError(f"{who} cannot be traced by torch.jit.trace or torch.onnx.export; {_INSTEAD}")
    present = [tensor for tensor in tensors if tensor is not None]
    refuse_tangents(who, present)
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(f"{who} cannot be transformed by torch.func (grad, vjp, vmap, ...); {_INSTEAD}")
    if _is_recording():
        raise RuntimeError(
            f"{who} cannot be exported, traced, or run on fake tensors: the kernels work on memory; {_INSTEAD}"
        )
    for tensor in present:
        kind = type(tensor)
        if kind is not Tensor and kind is not Parameter and keeps_values_elsewhere(kind):
            raise RuntimeError(f"{who} cannot run on a {kind.__name__}: the kernels work on memory; {_INSTEAD}")
        if tensor.is_meta and not backend_of(tensor.device).symbolic:
            raise RuntimeError(f"{who} cannot run on the meta device: the kernels work on memory; {_INSTEAD}")
        if tensor.layout is not torch.strided:
            raise RuntimeError(f"{who} cannot run on tensors of layout {tensor.layout}, only on dense ones")
        if kind is not Parameter and torch._C._functorch.is_legacy_batchedtensor(tensor):
            raise RuntimeError(f"{who} cannot be batched (is_grads_batched=True); {_INSTEAD}")


def are_active() -> bool:
    """Whether any of torch's transforms may be at work, so that tensors must be looked at one by one."""
    return (
        torch.jit.is_tracing()
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or _is_recording()
    )


def _is_recording() -> bool:
    if torch._C._len_torch_dispatch_stack() > 0:
        return any(torch._C._get_dispatch_mode(key) is not None for key in _RECORDING_MODES)
    return _len_torch_dispatch_stack_pre_dispatch() > 0
