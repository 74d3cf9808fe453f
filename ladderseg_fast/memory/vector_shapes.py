"""Arithmetic with vectors on the meta device, in a fraction of the time."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_ELEMENTWISE = {
    _aten.add.Tensor,
    _aten.div.Tensor,
    _aten.mul.Tensor,
    _aten.neg.default,
    _aten.pow.Tensor_Scalar,
    _aten.rsqrt.default,
    _aten.sub.Tensor,
}


class VectorShapes(TorchDispatchMode):
    """In its region, an elementwise operation on meta tensors that are alike is but an empty result.

    For these torch has references in Python that take about 60 us each, and a step has thousands of them.
    """

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _ELEMENTWISE and not kwargs:
            first, *others = (each for each in args if isinstance(each, Tensor))
            if first.is_meta and first.is_floating_point() and all(_alike(first, other) for other in others):
                return torch.empty_like(first)
        return function(*args, **(kwargs or {}))


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape
