"""Arguments that operators must refuse: what a user may pass by mistake, and what is at the edge of every type."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from drawn_tensors import Draw
from operator_arguments import Arguments
from torch import Tensor

_MAPS = ("x", "coarse", "skip", "shortcut", "scores", "logits")
_STATISTICS = ("mean", "invstd", "shortcut_mean", "shortcut_invstd")
_HUGE = 1 << 16

#: Words of errors about too much memory, which do not know the argument.
OUT_OF_MEMORY = r"can't allocate memory|not enough memory|overflow|too large|exceed"


def break_one(draw: Draw, arguments: Arguments) -> tuple[Arguments, str]:
    """Makes one argument wrong; returns all of them, and a pattern of what the error must contain."""
    kinds = {name: _kind(name, value) for name, value in arguments.items()}
    name = draw.choice([name for name, kind in kinds.items() if kind])
    tensors = [other for other, given in arguments.items() if isinstance(given, Tensor)]
    while True:
        value = draw.choice(_FAULTS[kinds[name]](draw, arguments[name]))
        # If all tensors are on the meta device, there is nothing to refuse: the result is there too.
        if tensors != [name] or not (isinstance(value, Tensor) and value.is_meta):
            break
    # An argument that differs from the others may be what the error compares them with.
    names = "|".join({name, *tensors} if isinstance(value, Tensor) else {name})
    return arguments | {name: value}, rf"\b({names})\b|{OUT_OF_MEMORY}|has no memory"


def _kind(name: str, value: Any) -> str:
    if name in _MAPS:
        return "map"
    if name == "weight":
        return "weight"
    if name in ("labels", "size", "dilation", "ignore_index", "label_smoothing", "reduction", "threshold", "min_kept"):
        return name
    if name in ("smooth", "eps"):
        return "constant"
    if name == "class_weights":
        return name if value is not None else ""
    if name in _STATISTICS:
        return "statistics" if value is not None else ""
    if "gamma" in name or "beta" in name:
        return "vector" if value is not None else ""
    return ""


def _of_no_kind(draw: Draw, value: Tensor) -> Sequence[Any]:
    """Things that are no tensor, and tensors that kernels cannot read, whatever their shape."""
    others = [value.cfloat(), value.bool(), torch.empty_like(value, device="meta"), value.to(torch.float8_e4m3fn)]
    if value.dim() > 0:
        others.append(value.to_sparse())
    return [[1.0, 2.0], "x", 3, {}, np.zeros(value.shape, np.float32), *others]


def _maps(draw: Draw, value: Tensor) -> Sequence[Any]:
    faults = [value[0] if len(value) else value.sum(0), value[None], value.sum(), value.flatten(), value[:, :0], None]
    faults += [value.to(dtype) for dtype in (torch.int64, torch.uint8, torch.float16)]
    faults.append(value.new_zeros(1).expand(_HUGE, value.shape[1], _HUGE, _HUGE))
    if value.numel():
        faults.append(value[:, :1].expand(-1, 1 << 45, -1, -1))  # of no images, these would be no elements
        freed = value.clone()
        freed.untyped_storage().resize_(0)
        faults.append(freed)
    return [*faults, *_of_no_kind(draw, value)]


def _vectors(draw: Draw, value: Tensor) -> Sequence[Any]:
    other = torch.float32 if value.dtype == torch.float64 else torch.float64
    faults = [value.repeat(2), value[:-1], value[:0], value[None], value[0]]
    return [*faults, value.to(other), value.half(), value.long(), value[:1].expand(1 << 45), *_of_no_kind(draw, value)]


def _statistics(draw: Draw, value: Tensor) -> Sequence[Any]:
    return [None, *_vectors(draw, value)]


def _weights(draw: Draw, value: Tensor) -> Sequence[Any]:
    faults = [None, value[0], value[None], value[:0], value[:, :0], value[:, :, :0], value.repeat(1, 2, 1, 1)]
    faults += [value.repeat(1, 1, 1, 2), value.half(), value.long(), value[:1].expand(1 << 45, -1, -1, -1)]
    return [*faults, *_of_no_kind(draw, value)]


def _labels(draw: Draw, value: Tensor) -> Sequence[Any]:
    value = value.long()
    faults = [None, value[None], value.flatten(), value[:, :0], value[:, :, :0], value.float(), value.bool()]
    faults += [torch.cat([value, value[:1]]) if len(value) else value.new_zeros(1, 2, 2)]
    faults.append(value.new_zeros(1).expand(len(value), 1 << 30, 1 << 29) if len(value) else None)
    for wrong in (1 << 20, -(1 << 20), (1 << 63) - 2, -(1 << 63) + 1):
        if value.numel():
            faults.append(value.clone().contiguous())
            faults[-1].view(-1)[draw.integer(0, value.numel() - 1)] = wrong
    return [*faults, *_of_no_kind(draw, value.float())]


def _class_weights(draw: Draw, value: Tensor) -> Sequence[Any]:
    faults = [value.repeat(2), value[:-1], value[None], value.sum(), value.bool(), value.cfloat(), [1.0], 1.0, "x"]
    return [*faults, torch.empty_like(value, device="meta"), value.float().requires_grad_()]


#: Numbers that are none of torch's int, nor of its float.
_NO_INTEGERS = (None, 1.5, "1", [1], math.nan, 1 << 63, -(1 << 63) - 1, 1 << 200, 1j)
_NO_REALS = (None, "1", [1.0], 1j, {})


def _fixed(*faults: Any) -> Callable[[Draw, Any], Sequence[Any]]:
    return lambda draw, value: faults


_FAULTS: dict[str, Callable[[Draw, Any], Sequence[Any]]] = {
    "map": _maps,
    "vector": _vectors,
    "statistics": _statistics,
    "weight": _weights,
    "labels": _labels,
    "class_weights": _class_weights,
    "size": _fixed((0, 3), (3, 0), (-1, 3), (3,), (1, 2, 3), (), None, "ab", (1.5, 2), (1 << 40, 1 << 20)),
    "dilation": _fixed(0, -1, -(1 << 63), *_NO_INTEGERS),
    "ignore_index": _fixed(*_NO_INTEGERS),
    "label_smoothing": _fixed(-0.1, 1.1, -1e-300, math.nan, math.inf, 10**400, *_NO_REALS),
    "reduction": _fixed("avg", "", None, 1, b"mean", ["mean"]),
    "threshold": _fixed(0.0, -0.5, 1.5, math.nan, math.inf, "1", [1.0], 1j, {}),
    "min_kept": _fixed(-1, -0.5, 1.5, math.nan, math.inf, *_NO_REALS),
    "constant": _fixed(-1.0, math.nan, math.inf, -math.inf, 10**400, *_NO_REALS),
}
