"""Lean steps under torch.compile: they run as they are, between the graphs of what is before and after them."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def opaque(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, into which torch.compile does not look: there is a graph break where it is called.

    With fullgraph=True, which admits none, torch's error gives the reason.
    """
    # Not torch.compiler.disable: that takes a second of importing torch._dynamo, for those who compile nothing too.
    outside = torch._disable_dynamo(function)
    reason = 'memory="lean" is no graph of torch\'s operators; memory="plain" is'
    outside.__dict__.update(_torchdynamo_disable=True, _torchdynamo_disable_msg=reason)

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return outside(*arguments, **named)
        return function(*arguments, **named)

    return call
