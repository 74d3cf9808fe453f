"""Torch's guards, which compare the facts of many tensors in C++.

They are not a public part of torch, which has them for torch.compile. A release may come without them, or with others:
then lean steps are interpreted, not repeated.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor


class Guards(Protocol):
    """The types, sizes, strides, dtypes, devices, dispatch keys and requires_grad of some tensors."""

    def check(self, *tensors: Tensor) -> bool:
        """Whether as many `tensors` have these facts; False if one occurs twice.

        Raises:
            TypeError: they are more, or fewer.
        """


def are_available() -> bool:
    """Whether this torch has guards that work as they are used here; to be asked outside of torch's dispatch modes."""
    return _kind() is not None


def guards_of(tensors: Sequence[Tensor]) -> Guards:
    """Guards of the facts of these tensors, for `Guards.check`; only if they are available."""
    kind = _kind()
    assert kind is not None
    return _made(kind, *tensors)


def _made(kind: Callable[..., Guards], *tensors: Tensor) -> Guards:
    return kind(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None)


@cache
def _kind() -> Callable[..., Guards] | None:
    try:
        from torch._C._dynamo.guards import TensorGuards
    except ImportError:
        return None
    return TensorGuards if _works(TensorGuards) else None


def _works(kind: Callable[..., Guards]) -> bool:
    """Whether guards of class `kind` tell tensors apart as they should."""

    def make(
        *size: int, dtype: torch.dtype = torch.float32, device: str = "cpu", requires_grad: bool = False
    ) -> Tensor:
        return torch.empty(size, dtype=dtype, device=device, requires_grad=requires_grad)

    others = (
        make(3, 2),
        make(2, 3, 1),
        make(3, 2).t(),
        make(2, 3, dtype=torch.float64),
        make(2, 3, requires_grad=True),
        make(2, 3, device="meta"),
        torch.nn.Parameter(make(2, 3), requires_grad=False),
        torch._neg_view(make(2, 3)),
    )
    try:
        guards = _made(kind, make(2, 3), make(1))
        same, one = make(2, 3), make(1)
        return (
            guards.check(same, one) is True
            and not any(guards.check(other, one) for other in others)
            and not _made(kind, same, same).check(same, same)
        )
    except (AttributeError, RuntimeError, TypeError):
        return False
