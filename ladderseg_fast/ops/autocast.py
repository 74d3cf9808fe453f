"""The dtype in which operators compute under torch.autocast."""

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .backend import backend_of

_CAST = (torch.float32, torch.float16, torch.bfloat16)

_warned = False


def _is_enabled(dtype: torch.dtype, device: torch.device) -> bool:
    return dtype in _CAST and device.type != "meta" and torch.is_autocast_enabled(device.type)


def _applies(dtype: torch.dtype, device: torch.device) -> bool:
    if not _is_enabled(dtype, device):
        return False
    wanted = torch.get_autocast_dtype(device.type)
    if wanted not in backend_of(device).dtypes:
        _warn_once(wanted)
        return False
    return True


def _warn_once(wanted: torch.dtype) -> None:
    global _warned
    if not _warned:
        _warned = True
        name = str(wanted).removeprefix("torch.")
        need = "have no float16" if wanted == torch.float16 else "need a processor with AVX512-BF16 for bfloat16"
        warnings.warn(
            f"torch.autocast to {name} has no effect on ladderseg_fast's kernels for the CPU, which {need}: they "
            'compute in float32; models with memory="plain" follow it',
            UserWarning,
            stacklevel=3,
        )


def feature_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Dtype for convolutions of a map of `dtype`: autocast's, if torch.autocast is enabled and has an effect.

    It has no effect on the CPU with float16, nor with bfloat16 on processors that do not multiply it (AVX512-BF16); a
    UserWarning says so, once per process. Nor does it affect float64, as elsewhere in PyTorch.
    """
    return torch.get_autocast_dtype(device.type) if _applies(dtype, device) else dtype


def cast(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Casts x and `others` as torch.autocast casts arguments of convolutions; without it, returns them unchanged."""
    if not _applies(x.dtype, x.device):
        return x, *others
    dtype = feature_dtype(x.dtype, x.device)
    return tuple(tensor.to(dtype) if tensor.dtype in _CAST else tensor for tensor in (x, *others))


def float32_in_autocast(x: Tensor) -> Tensor:
    """Casts x, of any shape, as torch.autocast casts arguments of losses.

    It does so on the CPU too, for bfloat16 scores of plain models.
    """
    return x.float() if _is_enabled(x.dtype, x.device) else x


def disabled(device: torch.device) -> AbstractContextManager:
    """Region without torch.autocast."""
    kind = device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):  # the meta device has no autocast to disable
        return nullcontext()
    return torch.autocast(kind, enabled=False)
