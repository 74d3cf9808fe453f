"""The check that modules still compute what a program computes in their place.

A lean step calls none of the modules inside a network: it takes their parameters and does their computation itself.
It would ignore any other edit of a module (another activation in its place, a hook, another stride), so such edits are
refused. Examining every module of a network takes milliseconds. The result is therefore stored, and each step only
compares the modules with it, which takes a fraction of a millisecond.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, filterfalse, repeat
from operator import contains, eq, is_, itemgetter, methodcaller
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from .examination import AVERAGE_POOL, HOOKS, MAX_POOL, Examination, UnsupportedModuleError, methods
from .tensor_guards import Guards, are_available, guards_of


def check_modules(root: nn.Module, examine: Callable[[Examination], None] | None = None) -> dict[Any, Any]:
    """Checks that `root` computes what its program does.

    The program follows, and therefore allows: any values of parameters and buffers, other numbers of channels that fit
    together, parametrizations, dilation of a dense layer's 3x3 convolution (with its padding), eps, momentum, affine
    and the mode of batch norms, nn.SyncBatchNorm in their place, a head's bias, probability and mode of dropouts.

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
        every = [root, *self._below]
        self._columns: list[tuple[list[int], tuple[str, ...]]] = []
        """Numbers of modules, and their attributes that may change."""
        self._known_shapes: tuple[list[torch.Size], Guards | None] = [], None
        self._with_tensors: list[int] = []
        """Numbers of the modules whose tensors' shapes may change."""
        for kind, names in _ATTRIBUTES.items():  # of a class or its base: torch subclasses a parametrized module's
            numbers = [number for number, module in enumerate(every) if isinstance(module, kind)]
            self._columns.append((numbers, names))
            if kind in _WITH_TENSORS:
                self._with_tensors += numbers
        self._seen = [*map(_kept, self._facts(root))]

    def holds(self, root: nn.Module) -> bool:
        """Whether nothing that matters has changed since the examination."""
        return all(map(eq, self._facts(root), self._seen))

    def _facts(self, root: nn.Module) -> Iterator[object]:
        # Lists of one fact of many modules: nothing here is done in Python for each module, and few objects exist at a
        # time, since thousands would trigger the garbage collector.
        modules = [root, *self._below]
        own = [*map(vars, modules)]
        uncalled = own[1:] if self._called else own
        yield any(chain.from_iterable(map(_read_hooks, uncalled)))
        yield any(map(contains, uncalled, repeat("forward")))
        types = [*map(type, modules)]
        yield types
        yield [*map(methods, dict.fromkeys(types))]
        yield [*map(len, uncalled)]
        children = [*map(_read_modules, own)]
        yield from _keys(children)
        yield [*chain.from_iterable(map(_values, children))]
        for numbers, names in self._columns:
            some = [own[number] for number in numbers]
            for name in names:
                yield [*map(dict.get, some, repeat(name))]
        some = [own[number] for number in self._with_tensors]
        tables = [*map(_read_parameters, some), *map(_read_buffers, some)]
        yield from _keys(tables)
        tensors = [*chain.from_iterable(map(_values, tables))]
        yield [*map(is_, tensors, repeat(None))]
        yield self._shapes([*filterfalse(_is_none, tensors)])

    def _shapes(self, tensors: list[Tensor]) -> list[torch.Size]:
        """Shapes of `tensors`; to read them takes a third of a check, unless guards find all facts as before."""
        known, guards = self._known_shapes
        if guards is not None and len(tensors) == len(known) and guards.check(*tensors):
            return known
        shapes = [tensor.shape for tensor in tensors]
        self._known_shapes = shapes, _guards_of(tensors)
        return shapes


def _guards_of(tensors: Sequence[Tensor]) -> Guards | None:
    """Guards of plain tensors, if torch has them and nothing changes what its operators do."""
    plain = {Tensor, nn.Parameter}.issuperset(map(type, tensors))
    usable = plain and torch._C._len_torch_dispatch_stack() == 0 and not torch.compiler.is_compiling()
    return guards_of(tensors) if usable and are_available() else None


def _kept(fact: object) -> object:
    """`fact` with copies of the lists in it, which a user may change in place: torch takes lists for tuples."""
    return [list(each) if isinstance(each, list) else each for each in fact] if isinstance(fact, list) else fact


def _keys(tables: list[dict[str, Any]]) -> Iterator[object]:
    yield [*map(len, tables)]
    yield [*chain.from_iterable(tables)]


_is_none = partial(is_, None)
_read_hooks = itemgetter(*HOOKS)
_read_modules, _read_parameters, _read_buffers = map(itemgetter, ("_modules", "_parameters", "_buffers"))
_values = methodcaller("values")

#: Attributes of torch's modules that may change, and that the examination looks at.
_ATTRIBUTES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
    ),
    nn.BatchNorm2d: ("num_features", "track_running_stats"),
    nn.SyncBatchNorm: ("num_features", "track_running_stats"),
    nn.AvgPool2d: (*AVERAGE_POOL,),
    nn.MaxPool2d: (*MAX_POOL,),
    nn.Dropout: ("p", "training"),
    nn.Dropout2d: ("p", "training"),
}
_WITH_TENSORS = (nn.Conv2d, nn.BatchNorm2d, nn.SyncBatchNorm)


def watch(kind: type[nn.Module], *names: str) -> None:
    """Registers attributes of a class on which an examination depends."""
    _ATTRIBUTES[kind] = names


#: Snapshots by their root module.
_snapshots: "WeakKeyDictionary[nn.Module, _Snapshot]" = WeakKeyDictionary()
