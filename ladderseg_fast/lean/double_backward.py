"""A program can be differentiated once; differentiating its gradients is an error and never a silent zero."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def refuse_double_backward(
    gradients: Sequence[Tensor | None], dependencies: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Returns the same gradients, connected to all `dependencies` through a node that raises RuntimeError.

    torch's once_differentiable does not suffice: its error node leads nowhere, and torch.autograd.grad visits only the
    nodes between its outputs and inputs.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    sources = [tensor for tensor in dependencies if tensor is not None and tensor.requires_grad]
    if not present or not sources:
        return tuple(gradients)
    refusing = iter(_Refusal.apply(len(present), *present, *sources))
    return tuple(None if gradient is None else next(refusing) for gradient in gradients)


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            'memory="lean" has no second derivative: it can be differentiated once; '
            'for double backward use memory="plain"'
        )
