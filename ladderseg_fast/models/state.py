"""Comparison of a state_dict with the module that loads it: names, shapes, and whether every value can be kept."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

#: Largest number of names of each kind that an error lists.
_LISTED = 5

#: Kinds of dtypes whose values convert to each other: half to double, but not integers, 8-bit or complex numbers.
_KINDS = (
    {torch.float16, torch.bfloat16, torch.float32, torch.float64},
    {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64},
)


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies `state` into the parameters and buffers of `module`, converted to their dtypes and devices.

    Raises:
        ValueError: a name is missing or left over, a tensor has another shape or kind, or a value is too large for its
            new dtype; the message lists them. `module` is then unchanged.
    """
    problems = state_problems(state, module.state_dict())
    if problems:
        raise ValueError(describe(problems))
    module.load_state_dict(state)


def state_problems(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Reasons why `state` cannot replace `target`: names by kind of problem."""
    common = [name for name in target if name in state]
    shapes = [name for name in common if state[name].shape != target[name].shape]
    kinds = [name for name in common if not same_kind(state[name], target[name])]
    large = [name for name in common if name not in kinds and _overflows(state[name], target[name].dtype)]
    found = {
        "missing": [name for name in target if name not in state],
        "left over": [name for name in state if name not in target],
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(target[name].shape)}" for name in shapes
        ],
        "of another kind": [f"{name} {_described(state[name])}" for name in kinds],
        "too large": [f"{name} for {target[name].dtype}" for name in large],
    }
    return {what: names for what, names in found.items() if names}


def same_kind(tensor: Tensor, target: Tensor) -> bool:
    """Whether the values of `tensor` convert to the dtype of `target`, which may be on the meta device."""
    numbers = [kind for kind in _KINDS if target.dtype in kind and tensor.dtype in kind]
    return bool(numbers) and tensor.layout == target.layout and not tensor.is_meta


def describe(problems: Mapping[str, Sequence[str]]) -> str:
    """Problems in one line, with the first names of each kind."""
    return "; ".join(f"{what}: {_abbreviated(names)}" for what, names in problems.items())


def _described(tensor: Tensor) -> str:
    if tensor.is_meta:
        return "without values"
    return str(tensor.dtype) if tensor.layout == torch.strided else str(tensor.layout)


def _overflows(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether a finite value of `tensor` is infinite as a `dtype`."""
    if tensor.dtype == dtype or not dtype.is_floating_point:
        return False
    return bool((tensor.isfinite() & ~tensor.to(dtype).isfinite()).any())


def _abbreviated(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
