"""Examination of modules: whether each one still computes what a program computes in its place."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import nn

from .. import nn as sections
from ..nn import (
    BasicBlock,
    BasicDenseBlock,
    BasicDenseLayer,
    Bottleneck,
    Context,
    DenseBlock,
    DenseLayer,
    Head,
    PyramidContext,
    Transition,
    TransitionUp,
)
from .joint_batch import BatchNorm
from .stages.bottleneck import dilation_of

#: Methods that call a module, and methods that a module computes with: a module may not override any of them, nor may
#: its class.
_CALLS = ("__call__", "_wrapped_call_impl", "_call_impl")
_COMPUTES = ("forward", "_conv_forward", "bottleneck", "stem", "bn_function", "bottleneck_fn")
METHODS = (*_CALLS, *_COMPUTES)


def methods(kind: type, names: tuple[str, ...]) -> tuple[object, ...]:
    """The methods of a class with these names."""
    return tuple(getattr(kind, name, None) for name in names)


#: Methods that known classes compute with; patching a class counts as an edit too. The methods in _CALLS are left out
#: because tracers patch them in all classes while they trace.
_GENUINE: dict[type[nn.Module], tuple[object, ...]] = {}


def know(*kinds: type[nn.Module]) -> None:
    """Registers the present methods of these classes as what programs compute in their place."""
    _GENUINE.update((kind, methods(kind, _COMPUTES)) for kind in kinds)


know(nn.Conv2d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.ReLU, nn.AvgPool2d, nn.MaxPool2d, nn.Identity)
know(nn.Dropout, nn.Dropout2d, nn.ModuleList, nn.Sequential)
know(
    *(
        kind
        for name in sections.__all__
        if isinstance(kind := getattr(sections, name), type) and issubclass(kind, nn.Module)
    )
)

#: Names of the ReLUs in the residual units of each known class.
_UNITS: dict[type[nn.Module], tuple[str, ...]] = {}


def know_units(kind: type[nn.Module], *relus: str) -> None:
    """Registers a class of residual units whose parts have torchvision's names (stages.residual_unit).

    relus: names of the ReLUs.
    """
    know(kind)
    _UNITS[kind] = relus


know_units(BasicBlock, "relu")
know_units(Bottleneck, "relu")

#: Batch norms of other libraries that end in their ReLU, by class: their modules, by name, and what these must be.
_WITH_RELU: dict[type[BatchNorm], Mapping[str, type[nn.Module]]] = {}


def know_norm_with_relu(kind: type[BatchNorm], **parts: type[nn.Module]) -> None:
    """Registers a batch norm that ends in its ReLU, if its modules are of the classes `parts`."""
    know(kind)
    _WITH_RELU[kind] = parts


#: Kinds of hooks, by the attribute of a module that holds them.
HOOKS = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_backward_hooks": "backward hook",
}

#: Attributes of the poolings that a program computes: 2x2 averages, and the stem's maxima.
AVERAGE_POOL = {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False, "divisor_override": None}
MAX_POOL = {
    "kernel_size": 3,
    "stride": 2,
    "padding": 1,
    "dilation": 1,
    "ceil_mode": False,
    "return_indices": False,
}


class UnsupportedModuleError(TypeError):
    """A module has been edited and no longer computes what the lean step computes in its place."""

    def __init__(self, path: str, edit: str) -> None:
        self.path, self.edit = path, edit
        super().__init__(f'{path} {edit}: memory="lean" does not follow that edit, memory="plain" does')


class Examination:
    """One examination of all modules of a tree; `modules` maps each module examined so far to its path.

    Each method takes a module with its path, and returns the numbers of channels that it reads and writes. It raises
    UnsupportedModuleError if a program would not compute what the module does; module_check lists what is allowed.
    """

    def __init__(self) -> None:
        self.modules: dict[nn.Module, str] = {}

    # Modules defined in nn/.

    def section(self, path: str, module: nn.Module, *kinds: type[nn.Module]) -> tuple[int, ...]:
        """Examines a section of one of these `kinds` (none: any); returns the channels of each input and the result."""
        known = {kind: examine for kind, examine in _SECTIONS.items() if not kinds or kind in kinds}
        for kind, examine in known.items():
            if isinstance(module, kind):
                return examine(self, path, module)
        expected = " or ".join(kind.__name__ for kind in known)
        raise UnsupportedModuleError(path, f"is {_described(module)}, expected {expected}")

    def stem(self, path: str, module: nn.Module, conv: str, norm: str, relu: str, pool: str) -> int:
        """Examines an encoder's stem, given the names of its parts in `module`; returns its output channels."""
        channels = self._convolution(f"{path}.{conv}", getattr(module, conv), 7, stride=2)
        self.norm_relu(path, module, norm, relu, channels)
        self.itself(f"{path}.{pool}", getattr(module, pool), nn.MaxPool2d, MAX_POOL)
        return channels

    def stem_modules(self, conv_path: str, conv: nn.Conv2d, norm_path: str, norm: BatchNorm) -> int:
        """Examines the 7x7 convolution with stride 2, and its batch norm; returns their output channels."""
        return self._norm(norm_path, norm, self._convolution(conv_path, conv, 7, stride=2))

    def layers(self, path: str, block: DenseBlock, channels: int, start: int = 0, stop: int | None = None) -> int:
        """Examines layers [start, stop) of `block`, the first of which reads `channels`; returns the final channels."""
        names = [name for name, _ in block.named_children()]
        for name, layer in list(zip(names, block.layers, strict=True))[start:stop]:
            reads, added = self.bottleneck(f"{path}.{name}", layer, DenseLayer)
            self.same(f"{path}.{name}", "reads", reads, channels, "are there")
            channels += added
        return channels

    def average_pool(self, path: str, pool: nn.AvgPool2d) -> None:
        """Examines a 2x2 average pooling."""
        self.itself(path, pool, nn.AvgPool2d, AVERAGE_POOL)

    def itself(
        self,
        path: str,
        module: nn.Module,
        kind: type[nn.Module],
        expected: Mapping[str, object] | None = None,
        called: bool = False,
    ) -> None:
        """Requires that `module` is an unedited `kind` with these attributes.

        called: it is called, so its own hooks run.
        """
        self._type(path, module, kind)
        for name, value in (expected or {}).items():
            found = getattr(module, name)
            if _pair(found) != _pair(value):
                raise UnsupportedModuleError(path, f"has {name}={found!r}, expected {value!r}")
        for table, kind_of_hook in HOOKS.items() if not called else ():
            for hook in getattr(module, table).values():
                name = getattr(hook, "__qualname__", type(hook).__qualname__)
                raise UnsupportedModuleError(path, f"has a {kind_of_hook}, {name}{_remedy(hook)}")
        self.modules[module] = path

    def same(self, path: str, verb: str, found: int, expected: int, where: str) -> None:
        """Requires that the module at `path` has the expected number of channels."""
        if found != expected:
            raise UnsupportedModuleError(path, f"{verb} {found} channels, and {expected} {where}")

    def _dense_block(self, path: str, block: DenseBlock) -> tuple[int, int]:
        self.itself(path, block, DenseBlock)
        return block.in_channels, self.layers(path, block, block.in_channels)

    def _basic_dense_block(self, path: str, block: BasicDenseBlock) -> tuple[int, int]:
        self.itself(path, block, BasicDenseBlock)
        self.itself(f"{path}.layers", block.layers, nn.ModuleList)
        channels = block.in_channels
        for number, layer in enumerate(block.layers):
            name = f"{path}.layers.{number}"
            self.itself(name, layer, BasicDenseLayer)
            reads, added = self.basic_layer(name, layer, ("norm", "relu", "conv", "drop"))
            self.same(name, "reads", reads, channels, "are there")
            channels += added
        return block.in_channels, channels - block.new_only * block.in_channels

    def basic_layer(self, path: str, layer: nn.Module, names: Sequence[str]) -> tuple[int, int]:
        """Examines BN - ReLU - conv 3x3, and dropout if there is a fourth name, given their names in `layer`."""
        norm, relu, conv, *drops = names
        channels = self.norm_relu(path, layer, norm, relu)
        for drop in drops:
            module = getattr(layer, drop)
            kinds = nn.Dropout, nn.Identity
            kind = next((kind for kind in kinds if isinstance(module, kind)), nn.Dropout2d)
            self.itself(f"{path}.{drop}", module, kind)
        return channels, self._convolution(f"{path}.{conv}", getattr(layer, conv), 3, channels, dilated=True, bias=True)

    def bottleneck(self, path: str, layer: Any, kind: type[nn.Module]) -> tuple[int, int]:
        """Examines a module of class `kind` with the modules of nn.DenseLayer, named as there."""
        self.itself(path, layer, kind)
        channels, hidden = self._reduction(path, layer)
        return channels, self._convolution(f"{path}.conv2", layer.conv2, 3, hidden, dilated=True)

    def _reduction(self, path: str, module: nn.Module) -> tuple[int, int]:
        """Examines the part up to the second ReLU, which bottlenecks and the pyramid share."""
        channels, hidden = self.projection(path, module, "norm1", "relu1", "conv1")
        self.norm_relu(path, module, "norm2", "relu2", hidden)
        return channels, hidden

    def residual_layer(
        self, path: str, units: nn.Sequential, kind: type[nn.Module] = nn.Sequential, called: bool = False
    ) -> tuple[int, int]:
        """Examines a sequence of residual units, of class `kind`; returns the channels that they read and give.

        called: the sequence is called, so its own hooks run.
        """
        self.itself(path, units, kind, called=called)
        if not units:
            raise UnsupportedModuleError(path, "has no unit")
        reads, channels = None, 0
        for name, unit in units._modules.items():  # named_children leaves out a unit that is there before
            found, after = self._residual_unit(f"{path}.{name}", unit)
            if reads is None:
                reads = found
            else:
                self.same(f"{path}.{name}", "reads", found, channels, "are there")
            channels = after
        assert reads is not None
        return reads, channels

    def _residual_unit(self, path: str, unit: Any) -> tuple[int, int]:
        kind = next((kind for kind in _UNITS if isinstance(unit, kind)), None)
        if kind is None:
            raise UnsupportedModuleError(path, f"is {_described(unit)}, expected a residual unit")
        self.itself(path, unit, kind)
        for name in _UNITS[kind]:
            self._relu(f"{path}.{name}", getattr(unit, name))
        sizes = (1, 3, 1) if hasattr(unit, "conv3") else (3, 3)
        spatial = sizes.index(3) + 1
        stride = 2 if _pair(getattr(unit, f"conv{spatial}").stride) == (2, 2) else 1
        channels = reads = unit.conv1.in_channels
        for number, size in enumerate(sizes, start=1):
            conv, own = getattr(unit, f"conv{number}"), stride if number == spatial else 1
            channels = self._convolution(
                f"{path}.conv{number}", conv, size, channels, own, dilated=size == 3 and own == 1
            )
            self._norm(f"{path}.bn{number}", getattr(unit, f"bn{number}"), channels)
        if unit.downsample is not None:
            self._projection_shortcut(f"{path}.downsample", unit.downsample, reads, channels, stride)
        elif stride != 1 or reads != channels:
            raise UnsupportedModuleError(path, f"adds {reads} channels to {channels}, stride {stride}")
        return reads, channels

    def _projection_shortcut(self, path: str, shortcut: nn.Module, reads: int, channels: int, stride: int) -> None:
        self.itself(path, shortcut, nn.Sequential)
        parts: list[Any] = list(shortcut._modules.values())
        if len(parts) != 2:
            raise UnsupportedModuleError(path, f"has {len(parts)} modules, expected a convolution and its batch norm")
        found = self._convolution(f"{path}.0", parts[0], 1, reads, stride)
        self.same(f"{path}.0", "gives", found, channels, "are there")
        self._norm(f"{path}.1", parts[1], channels)

    def _context(self, path: str, context: Context) -> tuple[int, int]:
        return self.bottleneck(path, context, Context)

    def _pyramid(self, path: str, context: PyramidContext) -> tuple[int, int]:
        self.itself(path, context, PyramidContext)
        channels, hidden = self._reduction(path, context)
        levels = [
            self._convolution(f"{path}.level{bins}", level, 1, hidden)
            for bins, level in zip(context.BINS, context.levels, strict=True)
        ]
        self._norm(f"{path}.norm3", context.norm3, hidden + sum(levels))
        self._relu(f"{path}.relu3", context.relu3)
        out = self._convolution(f"{path}.conv3", context.conv3, 3, hidden + sum(levels), dilated=True)
        return channels, out

    def _transition(self, path: str, transition: Transition) -> tuple[int, int]:
        self.itself(path, transition, Transition)
        channels, out = self.projection(path, transition)
        if isinstance(transition.pool, nn.Identity):
            self.itself(f"{path}.pool", transition.pool, nn.Identity)
        else:
            self.average_pool(f"{path}.pool", transition.pool)
        return channels, out

    def _transition_up(self, path: str, up: TransitionUp) -> tuple[int, int, int]:
        self.itself(path, up, TransitionUp)
        skip, projected = self.projection(path, up, "skip_norm", "skip_relu", "skip_conv")
        both = self._norm(f"{path}.norm", up.norm)
        if both <= projected:
            raise UnsupportedModuleError(f"{path}.norm", f"reads {both} channels, of which {projected} are projected")
        self._relu(f"{path}.relu", up.relu)
        return both - projected, skip, self._convolution(f"{path}.conv", up.conv, 3, both)

    def _head(self, path: str, head: Head) -> tuple[int, int]:
        self.itself(path, head, Head)
        return self.projection(path, head, bias=True)

    def projection(
        self,
        path: str,
        module: nn.Module,
        norm: str = "norm",
        relu: str = "relu",
        conv: str = "conv",
        bias: bool = False,
    ) -> tuple[int, int]:
        """Examines BN - ReLU - conv 1x1, given their names in `module`."""
        channels = self.norm_relu(path, module, norm, relu)
        return channels, self._convolution(f"{path}.{conv}", getattr(module, conv), 1, channels, bias=bias)

    def norm_relu(self, path: str, module: nn.Module, norm: str, relu: str, channels: int | None = None) -> int:
        """Examines BN - ReLU of `channels` (None: any number), given their names in `module`; returns the channels.

        A batch norm that ends in its ReLU is both; any other needs a ReLU, which is there.
        """
        child = getattr(module, norm)
        for kind, parts in _WITH_RELU.items():
            if isinstance(child, kind):
                for name, part in parts.items():
                    self.itself(f"{path}.{norm}.{name}", getattr(child, name), part)
                return self._norm(f"{path}.{norm}", child, channels, kind)
        found = self._norm(f"{path}.{norm}", child, channels)
        if not hasattr(module, relu):
            raise UnsupportedModuleError(f"{path}.{norm}", "does not end in a ReLU")
        self._relu(f"{path}.{relu}", getattr(module, relu))
        return found

    # Modules of torch.

    def _norm(
        self,
        path: str,
        norm: BatchNorm,
        channels: int | None = None,
        kind: type[BatchNorm] = nn.BatchNorm2d,
    ) -> int:
        """Examines a batch norm of `channels` (None: any number) and returns its number of channels."""
        self._once(path, norm)
        if kind is nn.BatchNorm2d and isinstance(norm, nn.SyncBatchNorm):
            kind = nn.SyncBatchNorm
        self.itself(path, norm, kind)
        found = norm.num_features
        if channels is not None:
            self.same(path, "has", found, channels, "are there")
        for name, tensor in (*norm._parameters.items(), *norm._buffers.items()):
            if name != "num_batches_tracked" and tensor is not None and tensor.shape != (found,):
                shapes = f"{tuple(tensor.shape)}, expected ({found},)"
                raise UnsupportedModuleError(f"{path}.{name}", f"is of shape {shapes}")
        missing = [name for name in ("running_mean", "running_var") if getattr(norm, name) is None]
        if missing and (len(missing) == 1 or norm.track_running_stats):
            tracks = f"track_running_stats={norm.track_running_stats}"
            raise UnsupportedModuleError(path, f"has no {missing[0]}, and {tracks}")
        return found

    def _convolution(
        self,
        path: str,
        conv: nn.Conv2d,
        kernel_size: int,
        channels: int | None = None,
        stride: int = 1,
        dilated: bool = False,
        bias: bool = False,
    ) -> int:
        """Examines a convolution of `channels` that keeps or halves the size; returns its output channels.

        `dilated`: any dilation is allowed, with the padding for it; `bias`: a bias is allowed.
        """
        self._once(path, conv)
        self._type(path, conv, nn.Conv2d)
        dilation = dilation_of(conv) if dilated else 1
        padding = dilation * (kernel_size // 2)
        expected: dict[str, object] = {"kernel_size": kernel_size, "stride": stride, "groups": 1}
        if kernel_size > 1:  # a 1x1 convolution computes the same with any of these
            expected |= {"dilation": dilation, "padding_mode": "zeros"}
        if not (conv.padding == "same" and stride == 1) and not (conv.padding == "valid" and padding == 0):
            expected["padding"] = padding
        self.itself(path, conv, nn.Conv2d, expected)
        if channels is not None:
            self.same(path, "reads", conv.in_channels, channels, "are there")
        if conv.bias is not None and not bias:
            raise UnsupportedModuleError(path, "has a bias")
        weight = conv._parameters.get("weight")  # absent if it is parametrized
        shape = (conv.out_channels, conv.in_channels, kernel_size, kernel_size)
        if weight is not None and weight.shape != shape:
            raise UnsupportedModuleError(f"{path}.weight", f"is of shape {tuple(weight.shape)}, expected {shape}")
        added = conv._parameters.get("bias")
        if added is not None and added.shape != shape[:1]:
            raise UnsupportedModuleError(f"{path}.bias", f"is of shape {tuple(added.shape)}, expected {shape[:1]}")
        return conv.out_channels

    def _relu(self, path: str, relu: nn.ReLU) -> None:
        self.itself(path, relu, nn.ReLU)

    def _type(self, path: str, module: nn.Module, kind: type[nn.Module]) -> None:
        if not isinstance(module, kind):
            raise UnsupportedModuleError(path, f"is {_described(module)}, expected {kind.__name__}")
        for name, genuine in zip(METHODS, (*methods(kind, _CALLS), *_GENUINE[kind])):
            if name in vars(module) or getattr(type(module), name, None) is not genuine:
                raise UnsupportedModuleError(path, f"is {_described(module)} with a {name} of its own")

    def _once(self, path: str, module: nn.Module) -> None:
        if module in self.modules:
            raise UnsupportedModuleError(path, f"is the same module as {self.modules[module]}")


#: Method that examines each section of nn/.
_SECTIONS: dict[type[nn.Module], Callable[[Examination, str, Any], tuple[int, ...]]] = {
    BasicDenseBlock: Examination._basic_dense_block,
    DenseBlock: Examination._dense_block,
    Context: Examination._context,
    PyramidContext: Examination._pyramid,
    Transition: Examination._transition,
    TransitionUp: Examination._transition_up,
    Head: Examination._head,
    nn.Sequential: Examination.residual_layer,
}


def _pair(value: object) -> object:
    """Returns one number as a pair, and any sequence that torch accepts as a tuple."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return value, value
    return tuple(value) if isinstance(value, list) else value


def _described(module: object) -> str:
    name = type(module).__qualname__
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def _remedy(hook: object) -> str:
    """Advice on how to remove one of torch's own hooks."""
    if str(getattr(hook, "__module__", "")).startswith("torch.distributed."):
        return " (fully_shard takes a network as a whole, or sections that `convert` has put into one)"
    home = type(hook).__module__
    if home == "torch.nn.utils.prune":
        return " (torch.nn.utils.prune.remove makes pruning permanent)"
    if home in ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm"):
        return " (those of torch.nn.utils.parametrizations are followed)"
    return ""
