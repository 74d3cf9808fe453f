"""Declarations of the functions that call kernels: the kernel of the core, and the cost of a call."""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TypeVar, cast

from torch import Tensor

from .arguments import Gradient, PreparedWeight
from .backend import backend_of
from .cost import Cost, pixels

Function = TypeVar("Function", bound=Callable[..., Any])

#: Function that computes the operations of a call from its arguments by name, without defaulted arguments.
Operations = Callable[..., float]

#: Kernels of the core that declared functions call.
_declared: set[str] = set()


def kernel(name: str, kind: str | None = None, operations: Operations | None = None) -> Callable[[Function], Function]:
    """Declares that a function calls the core's kernel `name`, and its cost; observers of the backend see each call.

    The function's first argument, a tensor or a Gradient, gives the device.

    Args:
        name: name of the kernel in _core.
        kind: see Cost.
        operations: operations of a call, from its arguments by name.
    """
    _declared.add(name)

    def declare(function: Function) -> Function:
        names = function.__code__.co_varnames

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            backend = backend_of(arguments[0].device)
            if backend.observers:
                cost = _cost(kind, operations, dict(zip(names, arguments)) | named)
                for observer in backend.observers:
                    observer(name, cost)
            return function(*arguments, **named)

        return cast(Function, call)

    return declare


def vector_kernel(name: str) -> Callable[[Function], Function]:
    """Declares a kernel that works only on vectors: its time counts as part of other calls (Rates.call)."""
    _declared.add(name)
    return lambda function: function


def check_declared(names: Collection[str]) -> None:
    """Checks that `names`, the core's kernels, are those whose cost is declared here.

    Raises:
        ImportError: a kernel has no cost, or a cost has no kernel.
    """
    for what, found in {
        "no operator calls these kernels of the core": set(names) - _declared,
        "the core has no such kernels": _declared - set(names),
    }.items():
        if found:
            raise ImportError(f"{what}: {', '.join(sorted(found))}; is _core of another version than the package?")


def _cost(kind: str | None, operations: Operations | None, arguments: dict[str, Any]) -> Cost:
    moved = sum(map(_map_bytes, arguments.values()))
    x, out = arguments.get("x"), arguments.get("out")
    channels = 0 if x is None else x.shape[1]
    result = 0 if out is None else max(out.stride(3), out.shape[1]) * pixels(out) * out.element_size()
    return Cost(kind, 0.0 if operations is None else operations(**arguments), moved, result, channels)


def _map_bytes(value: Any) -> int:
    """Bytes of a map or weight, or of the two maps of a Gradient; 0 for anything else."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size() if value.dim() >= 3 else 0
    if isinstance(value, PreparedWeight):
        return value.numel() * value.values.element_size()
    if isinstance(value, Gradient):
        return _map_bytes(value.grad) + (0 if value.correction is None else _map_bytes(value.x))
    return 0
