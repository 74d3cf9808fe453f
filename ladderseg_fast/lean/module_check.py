"""The check that modules still compute what a program computes in their place.

A lean step calls none of the modules inside a network: it takes their parameters and does their computation itself.
It would ignore any other edit of a module (another activation in its place, a hook, another stride), so such edits are
refused. Examining every module of a network takes milliseconds. The result is therefore stored, and each step only
compares the modules with it, which takes a fraction of a millisecond.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from operator import contains, eq, itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn.modules import module as torch_module

from .examination import AVERAGE_POOL, HOOKS, MAX_POOL, Examination, UnsupportedModuleError, methods

_read_hooks = itemgetter(*HOOKS)

_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


def check_modules(root: nn.Module, examine: Callable[[Examination], None] | None = None) -> dict[Any, Any]:
    """Checks that `root` computes what its program does.

    The program follows, and therefore allows: any values of parameters and buffers, other numbers of channels that fit
    together, parametrizations, dilation of a dense layer's 3x3 convolution (with its padding), eps, momentum, affine
    and the mode of batch norms, a head's bias, probability and mode of dropouts.

    Args:
        root: a section of nn/, or a network that consists of these.
        examine: for a network, the examination of its modules; the network has been called, so its own hooks have run.

    Returns:
        A dict for what the caller derives from the modules: empty whenever they have changed.

    Raises:
        UnsupportedModuleError: the program computes something else; the message names the module and the edit.
    """
    for table, kind in HOOKS.items():
        if getattr(torch_module, "_global" + table):
            raise UnsupportedModuleError("torch.nn.modules.module", f"has a {kind} for all modules")
    snapshot = _snapshots.get(root)
    if snapshot is None or not snapshot.holds(root):
        _snapshots.pop(root, None)
        snapshot = _snapshots[root] = _look(root, examine)
    return snapshot.derived


def check_stem(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Checks a stem's two modules, a 7x7 convolution with stride 2 and its batch norm, in the same way."""
    Examination().stem_modules("conv", conv, "norm", norm)


def _look(root: nn.Module, examine: Callable[[Examination], None] | None) -> "_Snapshot":
    name = type(root).__name__
    examination = Examination()
    try:
        if examine is None:
            examination.section(name, root)
        else:
            examine(examination)
    except AttributeError as error:
        raise UnsupportedModuleError(name, f"lacks a module ({error})") from error
    return _Snapshot(root, examine is not None, list(examination.modules))


class _Snapshot:
    """Result of an examination of `root`, in a form that is quickly compared with the present state.

    It refers to the modules below `root`, but not to `root` itself: a weak dictionary keeps it while `root` lives.
    """

    def __init__(self, root: nn.Module, called: bool, modules: list[nn.Module]) -> None:
        """called: whether `root` has been called, so that its hooks have run."""
        self._below = [module for module in modules if module is not root]
        self._called = called
        self.derived: dict[Any, Any] = {}
        every = enumerate(map(_reader, [root, *self._below]))
        self._readers = [(number, read) for number, read in every if read is not None]
        self._seen = list(self._facts(root))

    def holds(self, root: nn.Module) -> bool:
        """Whether nothing that matters has changed since the examination."""
        # One by one: thousands of objects at a time would trigger the garbage collector.
        return all(map(eq, self._facts(root), self._seen))

    def _facts(self, root: nn.Module) -> Iterator[object]:
        modules = [root, *self._below]
        attributes = [vars(module) for module in modules]
        uncalled = attributes[1:] if self._called else attributes
        yield any(map(any, map(_read_hooks, uncalled)))
        yield any(map(contains, uncalled, repeat("forward")))
        types = [*map(type, modules)]
        yield types
        yield [*map(methods, dict.fromkeys(types))]
        yield [*map(len, uncalled)]
        yield [[*own["_modules"].values()] for own in attributes]
        for number, read in self._readers:  # the types are those for which they have been chosen
            yield read(attributes[number])


def _convolution_facts(own: dict[str, Any]) -> tuple[object, ...]:
    parameters = own["_parameters"]
    tensors = parameters.get("weight"), parameters.get("bias")
    return (*map(own.get, _CONVOLUTION), *(None if tensor is None else tensor.size() for tensor in tensors))


def _norm_facts(own: dict[str, Any]) -> tuple[object, ...]:
    tensors = (*own["_parameters"].values(), *own["_buffers"].values())
    shapes = [None if tensor is None else tensor.size() for tensor in tensors]
    return own.get("num_features"), own.get("track_running_stats"), shapes


def _dropout_facts(own: dict[str, Any]) -> tuple[object, ...]:
    return own.get("p"), own.get("training")


#: Functions that read, from the attributes of torch's modules, the facts that may change.
_READERS: dict[type[nn.Module], Callable[[dict[str, Any]], object]] = {
    nn.Conv2d: _convolution_facts,
    nn.BatchNorm2d: _norm_facts,
    nn.AvgPool2d: lambda own: [*map(own.get, AVERAGE_POOL)],
    nn.MaxPool2d: lambda own: [*map(own.get, MAX_POOL)],
    nn.Dropout: _dropout_facts,
    nn.Dropout2d: _dropout_facts,
}


def watch(kind: type[nn.Module], *names: str) -> None:
    """Registers attributes of a class on which an examination depends."""
    _READERS[kind] = lambda own: [*map(own.get, names)]


def _reader(module: nn.Module) -> Callable[[dict[str, Any]], object] | None:
    """Reader of a class or its base: torch subclasses the class of a parametrized module."""
    return next((read for kind, read in _READERS.items() if isinstance(module, kind)), None)


#: Snapshots by their root module.
_snapshots: "WeakKeyDictionary[nn.Module, _Snapshot]" = WeakKeyDictionary()
