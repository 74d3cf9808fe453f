"""How the operators are registered with torch.library."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .transforms import refuse_tangents


def operator(name: str, schema: str) -> Callable[[Callable[..., Any]], Any]:
    """torch.library.custom_op for a function that gives tensors to the kernels and changes none that it is given.

    Tensors come to it with their values in memory (the negative bit is resolved), and without tangents.
    """

    def register(function: Callable[..., Any]) -> Any:
        def implementation(*arguments: Any) -> Any:
            refuse_tangents(name, (argument for argument in arguments if isinstance(argument, Tensor)))
            return function(*map(_resolved, arguments))

        implementation.__doc__ = function.__doc__
        return torch.library.custom_op(name, implementation, mutates_args=(), schema=schema)

    return register


def _resolved(argument: Any) -> Any:
    return argument.resolve_neg() if isinstance(argument, Tensor) and argument.is_neg() else argument
