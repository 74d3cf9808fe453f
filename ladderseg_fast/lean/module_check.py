"""Whether modules are still what a program computes in their place.

A lean step calls none of the modules inside a network: it takes their parameters and computes what they stand for.
Whatever else is done to one of them (another activation in its place, a hook, another stride) would be ignored, so it
is looked for, and refused. Looking at every module of a network takes milliseconds; so what was seen is remembered, and
compared at each step, which takes a fraction of one.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from numbers import Integral
from operator import contains, eq, itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn.modules import module as torch_module

from ..nn import (
    Context,
    DenseBlock,
    DenseLayer,
    DenseNetFeatures,
    Head,
    PyramidContext,
    ResNetFeatures,
    Transition,
    TransitionUp,
)

#: By what a module is called, and what a module of torch's or of nn/ computes with: none of these may be another
#: class's, or the module's own.
_CALLS = ("__call__", "_wrapped_call_impl", "_call_impl")
_COMPUTES = ("forward", "_conv_forward", "bottleneck", "stem")
_METHODS = (*_CALLS, *_COMPUTES)


def _methods(kind: type, names: tuple[str, ...] = _METHODS) -> tuple[object, ...]:
    return tuple(getattr(kind, name, None) for name in names)


#: What classes compute with that this package knows; one that somebody patches is edited, too. Not how modules are
#: called: tracers patch that of all classes, for as long as they trace.
_GENUINE = {
    kind: _methods(kind, _COMPUTES)
    for kind in (
        *(nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d, nn.MaxPool2d, nn.Identity),
        *(Context, DenseBlock, DenseLayer, DenseNetFeatures, Head, PyramidContext, ResNetFeatures, Transition),
        TransitionUp,
    )
}

_HOOKS = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_backward_hooks": "backward hook",
}

_read_hooks = itemgetter(*_HOOKS)

_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")

_AVERAGE_POOL = {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False, "divisor_override": None}

_MAX_POOL = {
    "kernel_size": 3,
    "stride": 2,
    "padding": 1,
    "dilation": 1,
    "ceil_mode": False,
    "return_indices": False,
}


class UnsupportedModuleError(TypeError):
    """A module has been edited so that it computes something else than the lean step does in its place."""

    def __init__(self, path: str, edit: str) -> None:
        super().__init__(f'{path} {edit}: memory="lean" does not follow that edit, memory="plain" does')


def check_modules(root: nn.Module) -> None:
    """Checks that `root`, a module of nn/ or a model made of these, computes what its program does.

    Followed, and therefore allowed, are: parameters and buffers of any values, other numbers of channels that fit
    together, parametrizations, dilation of a dense layer's 3x3 convolution (with its padding), eps, momentum, affine
    and the mode of batch norms, a head's bias.

    Raises:
        UnsupportedModuleError: it does not; the message names the module and the edit.
    """
    for table, kind in _HOOKS.items():
        if getattr(torch_module, "_global" + table):
            raise UnsupportedModuleError("torch.nn.modules.module", f"has a {kind} for all modules")
    snapshot = _snapshots.get(root)
    if snapshot is None or not snapshot.holds(root):
        _snapshots.pop(root, None)
        _snapshots[root] = _examine(root)


def check_stem(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """The same of a stem's two modules, for the convolution 7x7 with stride 2."""
    examination = _Examination()
    channels = examination.convolution("conv", conv, 7, stride=2)
    examination.norm("norm", norm, channels)


def _examine(root: nn.Module) -> "_Snapshot":
    examination = _Examination()
    is_container = isinstance(root, tuple(_CONTAINERS))
    try:
        if is_container:
            examination.container(type(root).__name__, root)
        else:
            examination.model(root)
    except AttributeError as error:
        raise UnsupportedModuleError(type(root).__name__, f"lacks a module ({error})") from error
    return _Snapshot(root, is_container, list(examination.modules))


class _Examination:
    """One look at all modules of a tree; `modules` are those that have been seen, with their paths."""

    def __init__(self) -> None:
        self.modules: dict[nn.Module, str] = {}

    # Containers. Each returns how many channels it reads and writes.

    def container(self, path: str, module: nn.Module) -> tuple[int, int]:
        """One of _CONTAINERS."""
        examine = next(examine for kind, examine in _CONTAINERS.items() if isinstance(module, kind))
        return examine(self, path, module)

    def model(self, model: nn.Module) -> None:
        """A models.SegmentationModel."""
        features, context = model.features, model.context
        if isinstance(features, DenseNetFeatures):
            self._densenet("features", features)
        else:
            self._resnet_stem("features", features)
        if not isinstance(context, (Context, PyramidContext)):
            raise UnsupportedModuleError("context", f"is {_described(context)}, expected Context or PyramidContext")
        reads, coarse = self.container("context", context)
        self._same("context", "reads", reads, features.channels[model.deepest], "the encoder gives")
        if model.aux_head is not None:
            auxiliary, _ = self._head("aux_head", model.aux_head)
            self._same("aux_head", "reads", auxiliary, coarse, "the context layer gives")
        for i, (name, up) in enumerate(model.transitions_up.items(), start=1):
            path = f"up{i}"
            skip, channels = self._transition_up(path, up)
            self._same(path, "reads skip connections", skip, features.channels[name], f"the encoder gives ({name})")
            upsampled = up.norm.num_features - up.skip_conv.out_channels
            self._same(path, "upsamples", upsampled, coarse, "are there")
            coarse = channels
        self._same("head", "reads", self._head("head", model.head)[0], coarse, "are there")

    def _densenet(self, path: str, features: DenseNetFeatures) -> None:
        self._container(path, features, DenseNetFeatures)
        channels = self.convolution(f"{path}.conv0", features.conv0, 7, stride=2)
        self.norm(f"{path}.norm0", features.norm0, channels)
        self._relu(f"{path}.relu0", features.relu0)
        self._leaf(f"{path}.pool0", features.pool0, nn.MaxPool2d, _MAX_POOL)
        for section in features.sections:
            block = f"{path}.denseblock{section.block}"
            if section.start > 0:
                self._leaf(f"{path}.split_pool", features.split_pool, nn.AvgPool2d, _AVERAGE_POOL)
            else:
                if section.block > 1:
                    name = f"{path}.transition{section.block - 1}"
                    reads, writes = self._transition(name, features.transition(section))
                    self._same(name, "reads", reads, channels, "are there")
                    channels = writes
                self._container(block, features.block(section), DenseBlock)
            channels = self._layers(block, features.block(section), channels, section.start, section.stop)
            self._same(block, "gives", channels, section.channels, "it was made for")

    def _resnet_stem(self, path: str, features: ResNetFeatures) -> None:
        """The residual units are torch's, and called."""
        self._container(path, features, ResNetFeatures)
        channels = self.convolution(f"{path}.conv1", features.conv1, 7, stride=2)
        self.norm(f"{path}.bn1", features.bn1, channels)
        self._relu(f"{path}.relu", features.relu)
        self._leaf(f"{path}.maxpool", features.maxpool, nn.MaxPool2d, _MAX_POOL)

    def _dense_block(self, path: str, block: DenseBlock) -> tuple[int, int]:
        self._container(path, block, DenseBlock)
        return block.in_channels, self._layers(path, block, block.in_channels, 0, None)

    def _layers(self, path: str, block: DenseBlock, channels: int, start: int, stop: int | None) -> int:
        for name, layer in list(block.named_children())[start:stop]:
            reads, added = self._bottleneck(f"{path}.{name}", layer, DenseLayer)
            self._same(f"{path}.{name}", "reads", reads, channels, "are there")
            channels += added
        return channels

    def _bottleneck(self, path: str, layer: nn.Module, kind: type[nn.Module]) -> tuple[int, int]:
        self._container(path, layer, kind)
        channels, hidden = self._reduction(path, layer)
        return channels, self.convolution(f"{path}.conv2", layer.conv2, 3, hidden, dilated=True)

    def _reduction(self, path: str, module: nn.Module) -> tuple[int, int]:
        """What bottlenecks and the pyramid begin with, up to the second ReLU."""
        channels, hidden = self._projection(path, module, "norm1", "relu1", "conv1")
        self.norm(f"{path}.norm2", module.norm2, hidden)
        self._relu(f"{path}.relu2", module.relu2)
        return channels, hidden

    def _context(self, path: str, context: Context) -> tuple[int, int]:
        return self._bottleneck(path, context, Context)

    def _pyramid(self, path: str, context: PyramidContext) -> tuple[int, int]:
        self._container(path, context, PyramidContext)
        channels, hidden = self._reduction(path, context)
        levels = [
            self.convolution(f"{path}.level{bins}", level, 1, hidden)
            for bins, level in zip(context.BINS, context.levels, strict=True)
        ]
        self.norm(f"{path}.norm3", context.norm3, hidden + sum(levels))
        self._relu(f"{path}.relu3", context.relu3)
        out = self.convolution(f"{path}.conv3", context.conv3, 3, hidden + sum(levels), dilated=True)
        return channels, out

    def _transition(self, path: str, transition: Transition) -> tuple[int, int]:
        self._container(path, transition, Transition)
        channels, out = self._projection(path, transition)
        if isinstance(transition.pool, nn.Identity):
            self._leaf(f"{path}.pool", transition.pool, nn.Identity, {})
        else:
            self._leaf(f"{path}.pool", transition.pool, nn.AvgPool2d, _AVERAGE_POOL)
        return channels, out

    def _transition_up(self, path: str, up: TransitionUp) -> tuple[int, int]:
        """Of the skip connection, and of the result."""
        self._container(path, up, TransitionUp)
        channels, projected = self._projection(path, up, "skip_norm", "skip_relu", "skip_conv")
        both = self.norm(f"{path}.norm", up.norm)
        if both <= projected:
            raise UnsupportedModuleError(f"{path}.norm", f"reads {both} channels, of which {projected} are projected")
        self._relu(f"{path}.relu", up.relu)
        return channels, self.convolution(f"{path}.conv", up.conv, 3, both)

    def _head(self, path: str, head: Head) -> tuple[int, int]:
        self._container(path, head, Head)
        return self._projection(path, head, bias=True)

    def _projection(
        self,
        path: str,
        module: nn.Module,
        norm: str = "norm",
        relu: str = "relu",
        conv: str = "conv",
        bias: bool = False,
    ) -> tuple[int, int]:
        """BN - ReLU - conv 1x1, by the names that `module` has them under."""
        channels = self.norm(f"{path}.{norm}", getattr(module, norm))
        self._relu(f"{path}.{relu}", getattr(module, relu))
        return channels, self.convolution(f"{path}.{conv}", getattr(module, conv), 1, channels, bias=bias)

    # Modules of torch's.

    def norm(self, path: str, norm: nn.BatchNorm2d, channels: int | None = None) -> int:
        """A batch norm of `channels`; returns how many it has."""
        self._once(path, norm)
        self._leaf(path, norm, nn.BatchNorm2d, {})
        found = norm.num_features
        if channels is not None:
            self._same(path, "has", found, channels, "are there")
        for name, tensor in (*norm._parameters.items(), *norm._buffers.items()):
            if name != "num_batches_tracked" and tensor is not None and tensor.shape != (found,):
                shapes = f"{tuple(tensor.shape)}, expected ({found},)"
                raise UnsupportedModuleError(f"{path}.{name}", f"is of shape {shapes}")
        missing = [name for name in ("running_mean", "running_var") if getattr(norm, name) is None]
        if missing and (len(missing) == 1 or norm.track_running_stats):
            tracks = f"track_running_stats={norm.track_running_stats}"
            raise UnsupportedModuleError(path, f"has no {missing[0]}, and {tracks}")
        return found

    def convolution(
        self,
        path: str,
        conv: nn.Conv2d,
        kernel_size: int,
        channels: int | None = None,
        stride: int = 1,
        dilated: bool = False,
        bias: bool = False,
    ) -> int:
        """A convolution of `channels` that keeps the size, or halves it; returns its output channels.

        `dilated`: any dilation will do, with the padding for it; `bias`: it may have one.
        """
        self._once(path, conv)
        self._type(path, conv, nn.Conv2d)
        dilation = _pair(conv.dilation)[0] if dilated else 1
        padding = dilation * (kernel_size // 2)
        expected = {"kernel_size": kernel_size, "stride": stride, "groups": 1}
        if kernel_size > 1:  # else these make no difference
            expected |= {"dilation": dilation, "padding_mode": "zeros"}
        if not (conv.padding == "same" and stride == 1) and not (conv.padding == "valid" and padding == 0):
            expected["padding"] = padding
        self._leaf(path, conv, nn.Conv2d, expected)
        if channels is not None:
            self._same(path, "reads", conv.in_channels, channels, "are there")
        if conv.bias is not None and not bias:
            raise UnsupportedModuleError(path, "has a bias")
        weight = conv._parameters.get("weight")  # not there if it is parametrized
        shape = (conv.out_channels, conv.in_channels, kernel_size, kernel_size)
        if weight is not None and weight.shape != shape:
            raise UnsupportedModuleError(f"{path}.weight", f"is of shape {tuple(weight.shape)}, expected {shape}")
        added = conv._parameters.get("bias")
        if added is not None and added.shape != shape[:1]:
            raise UnsupportedModuleError(f"{path}.bias", f"is of shape {tuple(added.shape)}, expected {shape[:1]}")
        return conv.out_channels

    def _relu(self, path: str, relu: nn.ReLU) -> None:
        self._leaf(path, relu, nn.ReLU, {})

    def _container(self, path: str, module: nn.Module, kind: type[nn.Module]) -> None:
        self._leaf(path, module, kind, {})

    def _leaf(self, path: str, module: nn.Module, kind: type[nn.Module], expected: Mapping[str, object]) -> None:
        """`module` is a `kind` with these attributes, and nothing else has been done to it."""
        self._type(path, module, kind)
        for name, value in expected.items():
            found = getattr(module, name)
            if _pair(found) != _pair(value):
                raise UnsupportedModuleError(path, f"has {name}={found!r}, expected {value!r}")
        for table, kind_of_hook in _HOOKS.items():
            for hook in getattr(module, table).values():
                name = getattr(hook, "__qualname__", type(hook).__qualname__)
                raise UnsupportedModuleError(path, f"has a {kind_of_hook}, {name}{_remedy(hook)}")
        self.modules[module] = path

    def _type(self, path: str, module: nn.Module, kind: type[nn.Module]) -> None:
        if not isinstance(module, kind):
            raise UnsupportedModuleError(path, f"is {_described(module)}, expected {kind.__name__}")
        for name, genuine in zip(_METHODS, (*_methods(kind, _CALLS), *_GENUINE[kind])):
            if name in vars(module) or getattr(type(module), name, None) is not genuine:
                raise UnsupportedModuleError(path, f"is {_described(module)} with a {name} of its own")

    def _once(self, path: str, module: nn.Module) -> None:
        if module in self.modules:
            raise UnsupportedModuleError(path, f"is the same module as {self.modules[module]}")

    def _same(self, path: str, verb: str, found: int, expected: int, where: str) -> None:
        if found != expected:
            raise UnsupportedModuleError(path, f"{verb} {found} channels, and {expected} {where}")


#: How each container of nn/ is examined.
_CONTAINERS: dict[type[nn.Module], Callable[[_Examination, str, Any], tuple[int, int]]] = {
    DenseBlock: _Examination._dense_block,
    Context: _Examination._context,
    PyramidContext: _Examination._pyramid,
    Transition: _Examination._transition,
    TransitionUp: _Examination._transition_up,
    Head: _Examination._head,
}


class _Snapshot:
    """What an examination of `root` has found, in a form that is quickly compared with what is there now.

    It holds the modules below `root`, but not that one, which it is remembered by as long as that one lives.
    """

    def __init__(self, root: nn.Module, is_container: bool, modules: list[nn.Module]) -> None:
        self._below = [module for module in modules if module is not root]
        self._is_container = is_container  # a model has been called, and its hooks with it
        self._seen = list(self._facts(root))

    def holds(self, root: nn.Module) -> bool:
        """Whether nothing that matters has changed since."""
        # One by one: thousands of objects at a time would set off the garbage collector.
        return all(map(eq, self._facts(root), self._seen))

    def _facts(self, root: nn.Module) -> Iterator[object]:
        modules = [root, *self._below]
        attributes = [vars(module) for module in modules]
        uncalled = attributes if self._is_container else attributes[1:]
        yield any(map(any, map(_read_hooks, uncalled)))
        yield any(map(contains, uncalled, repeat("forward")))
        types = [*map(type, modules)]
        yield types
        yield [*map(_methods, dict.fromkeys(types))]
        yield [*map(len, uncalled)]
        yield [[*own["_modules"].values()] for own in attributes]
        for module, own in zip(modules, attributes):
            read = _READERS.get(type(module)) or _reader(module)
            if read is not None:
                yield read(own)


def _convolution_facts(own: dict[str, Any]) -> tuple[object, ...]:
    parameters = own["_parameters"]
    tensors = parameters.get("weight"), parameters.get("bias")
    return (*map(own.get, _CONVOLUTION), *(None if tensor is None else tensor.shape for tensor in tensors))


def _norm_facts(own: dict[str, Any]) -> tuple[object, ...]:
    tensors = (*own["_parameters"].values(), *own["_buffers"].values())
    shapes = [None if tensor is None else tensor.shape for tensor in tensors]
    return own.get("num_features"), own.get("track_running_stats"), shapes


#: What may change in modules of torch's, from their attributes.
_READERS: dict[type[nn.Module], Callable[[dict[str, Any]], object]] = {
    nn.Conv2d: _convolution_facts,
    nn.BatchNorm2d: _norm_facts,
    nn.AvgPool2d: lambda own: [*map(own.get, _AVERAGE_POOL)],
    nn.MaxPool2d: lambda own: [*map(own.get, _MAX_POOL)],
}


def _reader(module: nn.Module) -> Callable[[dict[str, Any]], object] | None:
    """That of a subclass, such as torch makes for parametrized modules."""
    return next((read for kind, read in _READERS.items() if isinstance(module, kind)), None)


def _pair(value: object) -> object:
    """A number as two, and two as a tuple, whatever torch takes for them."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return value, value
    return tuple(value) if isinstance(value, list) else value


def _described(module: object) -> str:
    name = type(module).__qualname__
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def _remedy(hook: object) -> str:
    """What may be done in the place of torch's own hooks."""
    home = type(hook).__module__
    if home == "torch.nn.utils.prune":
        return " (torch.nn.utils.prune.remove makes pruning permanent)"
    if home in ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm"):
        return " (those of torch.nn.utils.parametrizations are followed)"
    return ""


#: By what they were taken of.
_snapshots: "WeakKeyDictionary[nn.Module, _Snapshot]" = WeakKeyDictionary()
