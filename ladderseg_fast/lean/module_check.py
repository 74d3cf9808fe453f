"""The check that modules still compute what a program computes in their place.

A lean step calls none of the modules inside a network: it takes their parameters and does their computation itself.
It would ignore any other edit of a module (another activation in its place, a hook, another stride), so such edits are
refused. Examining every module of a network takes milliseconds. The result is therefore stored, and each step only
compares the modules with it, which the core does in a fraction of a millisecond.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from .. import _core
from .examination import AVERAGE_POOL, HOOKS, MAX_POOL, METHODS, Examination, UnsupportedModuleError
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
        self.derived: dict[Any, Any] = {}
        below = [module for module in modules if module is not root]
        kinds = [*map(_read_of, (root, *below))]
        self._facts = _core.ModuleFacts(
            root,
            below,
            called,
            methods=METHODS,
            empty=[*HOOKS],
            absent=["forward"],
            children="_modules",
            tables=["_parameters", "_buffers"],
            kinds=kinds,
        )
        self._known_shapes: tuple[list[torch.Size], Guards | None] = [], None
        self._seen_shapes = self._shapes(self._facts.tensors(root) or [])

    def holds(self, root: nn.Module) -> bool:
        """Whether nothing that matters has changed since the examination."""
        tensors = self._facts.tensors(root)
        return tensors is not None and self._shapes(tensors) == self._seen_shapes

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


def _read_of(module: nn.Module) -> tuple[list[str], bool]:
    """The attributes of a module that may change, and whether its tensors' shapes may."""
    # Of a class or its base: torch subclasses a parametrized module's.
    kinds = [kind for kind in _ATTRIBUTES if isinstance(module, kind)]
    return [name for kind in kinds for name in _ATTRIBUTES[kind]], not _WITH_TENSORS.isdisjoint(kinds)


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
_WITH_TENSORS = {nn.Conv2d, nn.BatchNorm2d, nn.SyncBatchNorm}


def watch(kind: type[nn.Module], *names: str) -> None:
    """Registers attributes of a class on which an examination depends."""
    _ATTRIBUTES[kind] = names


#: Snapshots by their root module.
_snapshots: "WeakKeyDictionary[nn.Module, _Snapshot]" = WeakKeyDictionary()
