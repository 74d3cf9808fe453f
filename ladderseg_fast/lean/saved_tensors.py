"""Expectations in backward of the tensors that a forward pass has given to autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ops import transforms
from .tensor_guards import Guards, guards_of


class SavedKinds:
    """Sizes, dtypes and devices of saved tensors, in the order in which they have been saved."""

    def __init__(self, tensors: Sequence[Tensor], repeated: bool) -> None:
        """repeated: whether backward passes of many calls compare their tensors with these."""
        self._kinds = [*map(_kind, tensors)]
        self._repeated = repeated
        self._guards: Guards | None = None  # of tensors that have passed

    def checked(self, tensors: list[Tensor], who: str) -> list[Tensor]:
        """Returns `tensors`, unpacked in the backward pass `who`, with their values in memory.

        Raises:
            RuntimeError: torch.autograd.graph.saved_tensors_hooks have changed more than the strides of one, or see
                ops.transforms.refuse_transforms.
        """
        if self._guards is not None and not transforms.are_active() and self._guards.check(*tensors):
            return tensors
        for tensor, kind in zip(tensors, self._kinds, strict=True):
            if _kind(tensor) != kind:
                texts = (f"{list(shape)} {dtype} on {device}" for shape, dtype, device in (kind, _kind(tensor)))
                expected, found = texts
                raise RuntimeError(f"saved_tensors_hooks were given {expected} and gave back {found}")
        transforms.refuse_transforms(who, tensors)
        tensors = [tensor.resolve_neg() for tensor in tensors]
        if self._repeated:
            self._guards = guards_of(tensors)
        return tensors


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.size(), tensor.dtype, tensor.device
