"""Lean steps under torch.compile: they run uncompiled, between the graphs of the code before and after them."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def opaque(function: Callable[P, R]) -> Callable[P, R]:
    """Makes torch.compile break its graph at calls of `function` instead of tracing into it.

    With fullgraph=True, which allows no graph break, torch's error gives the reason.
    """
    # Not torch.compiler.disable: it imports torch._dynamo, which takes a second even if nothing is compiled.
    outside = torch._disable_dynamo(function)
    reason = 'memory="lean" is no graph of torch\'s operators; memory="plain" is'
    outside.__dict__.update(_torchdynamo_disable=True, _torchdynamo_disable_msg=reason)

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return outside(*arguments, **named)
        return function(*arguments, **named)

    return call
