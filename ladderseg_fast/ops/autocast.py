"""torch.autocast, for the operators: which dtype they compute in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .backend import runs_on_cuda

_CAST = (torch.float32, torch.float16, torch.bfloat16)


def _applies(x: Tensor) -> bool:
    device_type = x.device.type
    return (
        x.dtype in _CAST
        and device_type != "meta"
        and runs_on_cuda(x.device)
        and torch.is_autocast_enabled(device_type)
    )


def feature_dtype(x: Tensor) -> torch.dtype:
    """The dtype that convolutions of `x` are done in: that of torch.autocast, where it is enabled and has an effect.

    It has none on the CPU, whose kernels have no 16-bit types, nor on float64, as elsewhere in PyTorch.
    """
    return torch.get_autocast_dtype(x.device.type) if _applies(x) else x.dtype


def cast(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """x and `others` as torch.autocast does with the arguments of convolutions; without it, as they are."""
    if not _applies(x):
        return x, *others
    dtype = feature_dtype(x)
    return tuple(tensor.to(dtype) if tensor.dtype in _CAST else tensor for tensor in (x, *others))


def float32_in_autocast(x: Tensor) -> Tensor:
    """As torch.autocast does with the arguments of losses."""
    return x.float() if _applies(x) else x


def disabled(device: torch.device) -> AbstractContextManager:
    """A region without torch.autocast, which on the meta device there is none of."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
