"""Lean steps under torch's compilers.

Under torch.compile they run uncompiled, between the graphs of the code before and after them. In torch.export, whose
graph must be whole, the plain modules run in their place.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def is_exporting() -> bool:
    """Whether torch.export is at work, so that the plain modules have to run. Always False before torch 2.7."""
    return _is_exporting()


def _never() -> bool:
    return False


_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", _never)


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
