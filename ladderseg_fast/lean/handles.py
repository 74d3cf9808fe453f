"""Handles: texts by which operators in a compiler's graph find a module, which cannot be an argument of theirs."""

import uuid
from itertools import count
from weakref import WeakValueDictionary

from torch import nn

#: Other processes have another text here.
_PROCESS = uuid.uuid4().hex

_numbers = count()
_modules: "WeakValueDictionary[str, nn.Module]" = WeakValueDictionary()


def new_handle(module: nn.Module) -> str:
    """A handle of `module`, for as long as that lives. A copy of the module needs its own."""
    handle = f"{_PROCESS}.{next(_numbers)}"
    _modules[handle] = module
    return handle


def module_of(handle: str) -> nn.Module:
    """The module with this handle.

    Raises:
        RuntimeError: it has been deleted, or is in another process.
    """
    module = _modules.get(handle)
    if module is None:
        where = "has been deleted" if handle.startswith(f"{_PROCESS}.") else "is in another process"
        raise RuntimeError(f"the model that this graph was compiled for {where}: compile the present one")
    return module
