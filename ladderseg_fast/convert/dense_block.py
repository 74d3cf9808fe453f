"""Dense blocks without bottleneck in users' own code, such as an FC-DenseNet's.

Their forward is the user's, and no structure of modules says what it computes. So the user names the class, and the
conversion of a block compares its forward with the lean step on random maps, in training and in evaluation.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..lean import MemoryPlan, opaque
from ..lean.examination import Examination, UnsupportedModuleError, know
from ..lean.joint_batch import BATCH_NORMS, BatchNorm, groups_to_share
from ..lean.module_check import watch
from ..lean.program import Program, run
from ..lean.sections import basic_dense_block_stages
from ..ops.backend import backend_of
from ..ops.layout import is_channels_last
from .lean_module import LeanModule, LeanState, Replacement, expect_channels, laid_out

#: Sizes [H, W] of the maps on which a block is compared, and the largest difference of a number (float64, of about 1).
_SIZES = ((6, 5), (3, 8))
_TOLERANCE = 1e-9

Facts = dict[str, Any]


@dataclass
class BlockState(LeanState):
    """State of a converted block.

    new_only: it returns only the channels that its layers add.
    facts: attributes on which its forward may depend, as they were when it was compared.
    """

    new_only: bool = False
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """The modules of a layer; `drop` is an identity if there is no dropout."""

    norm: BatchNorm
    conv: nn.Conv2d
    drop: nn.Module


class LeanUsersBlock(LeanModule):
    """A block of a class that the user has declared; each such class has a subclass of this one."""

    @classmethod
    def lean_decide(cls, path: str, module: nn.Module, parts: Mapping[nn.Module, type[LeanModule]]) -> Replacement:
        look = Examination()
        look.itself(path, module, cls.lean_kind(module), called=True)
        facts = _watched_facts(module)
        _look_at_layers(look, path, module)
        state = BlockState(path, new_only=_compare(path, module, cls.lean_replaces), facts=facts)
        return Replacement(cls, state, "dense block without bottleneck")

    def lean_examine(self, look: Examination) -> None:
        state = self._block_state
        look.itself(state.path, self, type(self), called=True)
        _look_at_layers(look, state.path, self)
        for name, value in _facts(self).items():
            before = state.facts.get(name, "nothing")
            if name not in state.facts or before != value:
                raise UnsupportedModuleError(state.path, f"has {name}={value!r}, which was {before!r} when converted")

    @opaque
    def lean_forward(self, x: Tensor) -> Tensor:
        derived = self.lean_checked()
        layers = _layers(self)
        expect_channels(self.lean_state.path, x, layers[0].norm.num_features)
        channels_last, copies = is_channels_last(x), backend_of(x.device).repeats_steps

        def program(plan: MemoryPlan) -> Program:
            return _program(layers, self._block_state.new_only, channels_last, copies)

        (out,) = self.lean_run(derived, program, x, self.lean_plan(x), key=(channels_last, copies))
        return laid_out(out, self.lean_channels_last(x))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles how the class is made, instead of its name: a declaration makes it."""
        made = super().__reduce_ex__(protocol)
        assert isinstance(made, tuple)
        return _new, (type(self).lean_replaces,), *made[2:]

    def lean_sections(self) -> list[str]:
        return []  # a plan has no choices for its layers

    @property
    def _block_state(self) -> BlockState:
        assert isinstance(self.lean_state, BlockState)
        return self.lean_state


def declare_dense_block(kind: type[nn.Module]) -> type[nn.Module]:
    """Declares that modules of class `kind` are dense blocks without bottleneck, for `convert` to replace.

    Such a block has layers of BN - ReLU - conv 3x3 and perhaps dropout, in a list or in itself. Each layer reads all
    channels before it, and adds its own behind them. The block returns all channels, or those that its layers add.
    `convert` compares each block with the lean step on small random maps, and leaves alone what differs.

    Returns `kind`, so that it can decorate a class.

    Raises:
        TypeError: `kind` is no class of modules.
        ValueError: `convert` already replaces the class by something else.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"expected a class of modules, got {kind!r}")
    known = LeanModule.lean_classes.get(kind, [])
    if not known:
        attributes = {"lean_replaces": kind, "__module__": kind.__module__, "__doc__": kind.__doc__}
        type(f"Lean{kind.__name__}", (LeanUsersBlock, kind), attributes)  # which registers it
    elif not issubclass(known[0], LeanUsersBlock):
        raise ValueError(f"{kind.__name__} is known to convert, which replaces it by {known[0].__name__}")
    return kind


def _new(kind: type[nn.Module]) -> nn.Module:
    """New object of the class that replaces `kind`, without its state."""
    declare_dense_block(kind)
    (replacing,) = LeanModule.lean_classes[kind]
    return replacing.__new__(replacing)


def _named_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers and their paths in the block: its children, or those of the list that is its only child."""
    children = dict(module.named_children())
    for name, child in children.items():
        if isinstance(child, nn.ModuleList) and len(children) == 1:
            yield from ((f"{name}.{number}", layer) for number, layer in child.named_children())
        else:
            yield name, child


def _layers(module: nn.Module) -> list[Layer]:
    """Modules of the layers of an examined block."""
    found = []
    for _, layer in _named_layers(module):
        norm, _, conv, *drop = layer.children()
        assert isinstance(norm, BATCH_NORMS) and isinstance(conv, nn.Conv2d)
        found.append(Layer(norm, conv, drop[0] if drop else nn.Identity()))
    return found


def _look_at_layers(look: Examination, path: str, module: nn.Module) -> None:
    """Examines the modules that a lean step does not call.

    Raises:
        UnsupportedModuleError: they are not those of a dense block without bottleneck.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            look.itself(f"{path}.{name}", child, nn.ModuleList)
    channels = None
    for name, layer in _named_layers(module):
        where, names = f"{path}.{name}", list(layer._modules)  # those that are there twice, too
        if not 3 <= len(names) <= 4:
            raise UnsupportedModuleError(where, f"has {len(names)} modules, expected BN, ReLU, conv 3x3, dropout")
        look.itself(where, layer, type(layer))
        reads, added = look.basic_layer(where, layer, names)
        look.same(where, "reads", reads, reads if channels is None else channels, "are there")
        channels = reads + added
    if channels is None:
        raise UnsupportedModuleError(path, "has no layers")


def _facts(module: nn.Module) -> Facts:
    """Attributes of the block and of its layers that are numbers, texts or truth values, by path."""
    facts = _own_facts(module)
    for path, layer in _named_layers(module):
        facts.update((f"{path}.{name}", value) for name, value in _own_facts(layer).items())
    return facts


def _own_facts(module: nn.Module) -> Facts:
    simple = (bool, int, float, str, tuple, type(None))
    own = vars(module).items()
    return {name: x for name, x in own if isinstance(x, simple) and name[0] != "_" and name != "training"}


def _watched_facts(module: nn.Module) -> Facts:
    """The facts, which from now on are watched, as are the methods of the layers' classes."""
    for each in (module, *(layer for _, layer in _named_layers(module))):
        kind = type(each)
        if each is not module:
            know(kind)
        for watched in (kind, *LeanModule.lean_classes.get(kind, [])):
            if names := _own_facts(each):
                watch(watched, *names)
    return _facts(module)


def _program(layers: Sequence[Layer], new_only: bool, channels_last: bool, copies: bool = False) -> Program:
    return Program(basic_dense_block_stages(layers, new_only, channels_last, "x", "out", copies), ("x",), ("out",))


def _compare(path: str, module: nn.Module, kind: type[nn.Module]) -> bool:
    """Compares `module`, as an object of class `kind`, with the lean step; returns its state's `new_only`.

    Compared are copies with other parameters: those of a network that is not trained yet may hide a difference.

    Raises:
        UnsupportedModuleError: its forward computes something else, or raises an error.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        plain = copy.deepcopy(module, groups_to_share(module.modules())).cpu().double().requires_grad_()
        plain.__class__ = kind
        _let_alone(plain)
        _randomise(plain)
        twin = copy.deepcopy(plain)
        channels = _layers(plain)[0].norm.num_features
        new_only = False
        for training, (height, width) in ((training, size) for training in (True, False) for size in _SIZES):
            plain.train(training)
            twin.train(training)
            x = torch.randn(2, channels, height, width, dtype=torch.float64)
            try:
                expected = _step(plain, plain.forward, x)
            except Exception as error:
                raise UnsupportedModuleError(path, f"raises {type(error).__name__} for a map: {error}") from error
            layers = _layers(twin)
            new_only = expected[0].dim() == 4 and expected[0].shape[1] == sum(
                layer.conv.out_channels for layer in layers
            )
            actual = _step(twin, partial(_run, _program(layers, new_only, channels_last=False)), x)
            if len(actual) != len(expected) or not all(map(_near, actual, expected)):
                raise UnsupportedModuleError(path, "computes something else than a dense block without bottleneck")
    return new_only


def _run(program: Program, x: Tensor) -> Tensor:
    return run(program, [x])[0]


def _let_alone(block: nn.Module) -> None:
    """Gives batch norms the statistics of this process: others do not compare, and torch's module needs a GPU."""
    for module in block.modules():
        if type(module) is nn.SyncBatchNorm:
            module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]  # it becomes another class
            del module.process_group


def _randomise(block: nn.Module) -> None:
    """Draws parameters and running statistics, for results of about 1."""
    with torch.no_grad():
        for parameter in block.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.5
            parameter.normal_(std=scale)
        for name, buffer in block.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                buffer.normal_(std=0.3)


def _step(block: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """One step on x [N, C, H, W], from the same random numbers each time: output, gradients, running statistics."""
    torch.manual_seed(1)
    block.zero_grad()
    x = x.clone().requires_grad_()
    output = forward(x)
    output.backward(torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output))
    gradients = [tensor.grad for tensor in (x, *block.parameters()) if tensor.grad is not None]
    return [output.detach(), *gradients, *(buffer.clone() for buffer in block.buffers())]


def _near(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE)
