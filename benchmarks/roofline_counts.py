"""The device-memory bytes and the operations of a training step, by counting every launch of it.

The step runs on the meta device, where tensors have shapes and no contents. Counted are

- launches of this package's kernels: the launchers say which buffers a launch reads and writes (the emulator of the
  tests holds the kernels to that), and each byte counts once per launch;
- operators of torch, which both networks call: each byte of their arguments and results counts once, in place as read
  and as written, except as below. Views and allocations are free.

Each byte once means that what a launch reads again it finds in the cache. Where the maps are too large for that, the rule is

- batch norm in training reads its input twice: for the statistics, and to normalise. Its backward reads its input and
  the gradient twice: for the sums, and for the result. No kernel for maps larger than a cache can do with less.
- a convolution's backward is two kernels, one for the data's gradient and one for the weight's.
- an argument of a convolution that is not dense is copied by torch before it gets to cuDNN, which does not take such.
- what an operator does not look at is not read: the input in the backward of a pooling (it has the indices, or needs
  none) or of the loss (the shape alone matters), all but the label's score in the loss.

All this is kind to plain PyTorch: softmax, upsampling and the pooling's backward read or write parts twice on CUDA,
cuDNN may use work space or transform its operands, and none of that is counted. For the kernels of this package, too,
it is a floor: halos of tiles and caches too small cost more.

Operations are two per multiply-add in products. Those of other operators are estimates (OPERATIONS, and in the
launchers), far below what would set the time.
"""

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from roofline_devices import Device
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ladderseg_fast import LadderDenseNet, LadderLoss, _core
from ladderseg_fast.lean.stages import Stage

# Their module: the package has a function of the same name.
_loss_operators = importlib.import_module("ladderseg_fast.ops.upsample_cross_entropy")


@dataclass(frozen=True)
class Work:
    """One launch of a kernel of ours, or one operator of torch."""

    name: str
    read_bytes: int
    written_bytes: int
    operations: float
    by_tensor_cores: bool = False
    stage: str = ""

    @property
    def moved_bytes(self) -> int:
        return self.read_bytes + self.written_bytes


def lean_step(
    device: Device, dtype: torch.dtype, model: str, batch: int, size: tuple[int, int], allow_tf32: bool = False
) -> list[Work]:
    """What one training step of this package does on `device`; by stage of the network."""
    network, loss, images, labels = _on_meta(model, "lean", dtype, batch, size)
    with _allowing_tf32(allow_tf32), Counter(device, allow_tf32) as counter, _naming_stages(counter):
        loss(network(images), labels).backward()
    return counter.works


def plain_step(
    device: Device, dtype: torch.dtype, model: str, batch: int, size: tuple[int, int], allow_tf32: bool = False
) -> list[Work]:
    """What one training step of the same network in plain PyTorch does, all in the layout that cuDNN likes."""
    network, loss, images, labels = _on_meta(model, "plain", dtype, batch, size)
    network.to(memory_format=torch.channels_last)
    with Counter(device, allow_tf32) as counter:
        loss(network(images.contiguous(memory_format=torch.channels_last)), labels).backward()
    return counter.works


def _on_meta(
    model: str, memory: str, dtype: torch.dtype, batch: int, size: tuple[int, int]
) -> tuple[LadderDenseNet, LadderLoss, Tensor, Tensor]:
    with torch.device("meta"):
        network = LadderDenseNet(model, memory=memory).to(dtype)
        images = torch.empty(batch, 3, *size, dtype=dtype)
        labels = torch.empty(batch, *size, dtype=torch.int64)
    return network, LadderLoss(memory=memory), images, labels


@contextmanager
def _allowing_tf32(allow: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allow
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def _naming_stages(counter: "Counter") -> Iterator[None]:
    """What stages of lean programs do is counted under their names."""
    before = {(stage, name): getattr(stage, name) for stage in Stage.__subclasses__() for name in ("forward", "backward")}

    def named(function: Callable, direction: str) -> Callable:
        def call(self: Stage, *args: object) -> None:
            with counter.stage(f"{type(self).__name__.removesuffix('Stage')} {self.writes}, {direction}"):
                function(self, *args)

        return call

    for (stage, name), function in before.items():
        setattr(stage, name, named(function, name))
    try:
        yield
    finally:
        for (stage, name), function in before.items():
            setattr(stage, name, function)


class Counter(TorchDispatchMode):
    """Counts what happens to tensors on the meta device, in `works`, as if it happened on `device`."""

    def __init__(self, device: Device, allow_tf32: bool = False) -> None:
        super().__init__()
        self.works: list[Work] = []
        self._device = device
        self._allow_tf32 = allow_tf32
        self._stage = "loss, and between stages"

    def __enter__(self) -> "Counter":
        self._start_recording()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._collect()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens in this region belongs to the stage `name`."""
        self._collect()
        before, self._stage = self._stage, name
        self._start_recording()
        yield
        self._collect()
        self._stage = before
        self._start_recording()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inside = _OURS.get(function)
        if inside is not None:
            with self:
                return inside(*args, **kwargs)
        result = function(*args, **kwargs)
        if function is torch.ops.aten.convolution.default and _is_channels_last(args[0]):
            result = result.contiguous(memory_format=torch.channels_last)  # as on CUDA; the meta device forgets it
        if function.namespace == "aten":
            self._count(Call.of(function, args, kwargs, result))
        return result

    def _count(self, call: "Call") -> None:
        if call.name in ("convolution", "convolution_backward"):
            by_tensor_cores = self._device.multiplies_by_tensor_cores(call["input"].dtype, self._allow_tf32)
            for work in _convolution(call):
                self._add(work, by_tensor_cores and work.operations > 0)
        else:
            self._add(_operator(call))

    def _add(self, work: Work, by_tensor_cores: bool = False) -> None:
        if work.moved_bytes:
            self.works.append(
                Work(f"torch: {work.name}", work.read_bytes, work.written_bytes, work.operations, by_tensor_cores, self._stage)
            )

    def _start_recording(self) -> None:
        _core.cuda_start_recording(self._device.capability, self._device.multiprocessors)

    def _collect(self) -> None:
        for record in _core.cuda_stop_recording():
            name = record.kernel.rpartition("_")[0]
            tensor = "_tensor" in name
            self.works.append(
                Work(name, record.read_bytes, record.written_bytes, record.operations, tensor, self._stage)
            )


#: Operators of ours that torch takes for one on the meta device; what they do inside is counted.
_OURS = {
    torch.ops.ladderseg_fast.upsample_cross_entropy.default: _loss_operators._forward._init_fn,
    torch.ops.ladderseg_fast.upsample_cross_entropy_backward.default: _loss_operators._backward._init_fn,
}


@dataclass(frozen=True)
class Call:
    """A call of an operator of torch, with its arguments by name."""

    function: torch._ops.OpOverload
    arguments: dict[str, object]
    result: object

    @staticmethod
    def of(function: torch._ops.OpOverload, args: tuple, kwargs: dict, result: object) -> "Call":
        names = (argument.name for argument in function._schema.arguments)
        return Call(function, dict(zip(names, args)) | kwargs, result)

    @property
    def name(self) -> str:
        return self.function._schema.name.partition("::")[2]

    def __getitem__(self, argument: str) -> object:
        return self.arguments[argument]

    def results(self) -> list[Tensor]:
        """The tensors that the call has made."""
        values = self.result if isinstance(self.result, (tuple, list)) else [self.result]
        returns = self.function._schema.returns
        if len(returns) != len(values):  # a list of tensors
            returns = returns * len(values)
        return [
            value
            for value, returned in zip(values, returns)
            if isinstance(value, Tensor) and returned.alias_info is None
        ]


def extent(x: Tensor) -> int:
    """Bytes of memory that the elements of x lie in; what it repeats counts once."""
    return math.prod(size for size, stride in zip(x.shape, x.stride()) if stride) * x.element_size() if x.numel() else 0


#: Which only make a tensor.
_FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh")
#: Which write over what they are called on, or look at the shape of their argument only.
_OVERWRITING = ("zero_", "fill_", "copy_", "normal_", "uniform_", "zeros_like", "ones_like", "full_like", "new_zeros")
#: Arguments whose elements are read twice.
_TWICE = {
    "native_batch_norm": ("input",),
    "native_batch_norm_backward": ("grad_out", "input"),
}
#: Arguments that are there for their shape.
_NOT_READ = {
    "max_pool2d_with_indices_backward": ("self",),
    "avg_pool2d_backward": ("self",),
    "nll_loss2d_backward": ("self",),
}
#: Operations per element of the result, or of the input where that is larger; 1 where it is not said.
OPERATIONS = {
    "native_batch_norm": 8,
    "native_batch_norm_backward": 10,
    "max_pool2d_with_indices": 9,
    "upsample_bilinear2d": 9,
    "upsample_bilinear2d_backward": 8,
    "_log_softmax": 4,
    "_log_softmax_backward_data": 4,
    "cat": 0,
    "copy_": 0,
    "clone": 0,
    "_to_copy": 0,
    "zero_": 0,
}


def _operator(call: Call) -> Work:
    if call.name in _FREE:
        return Work(call.name, 0, 0, 0.0)
    results = call.results()
    read, written = 0, sum(map(extent, results))
    largest = max((x.numel() for x in results), default=0)
    seen = set()
    for argument in call.function._schema.arguments:
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        is_read = not argument.is_out and argument.name not in _NOT_READ.get(call.name, ())
        if argument.name == "self" and call.name in _OVERWRITING:
            is_read = False
        for x in tree_leaves(call.arguments.get(argument.name)):
            if not isinstance(x, Tensor):
                continue
            if is_written:
                written += extent(x)
            if is_read and id(x) not in seen:
                seen.add(id(x))
                share = 1 / x.shape[1] if call.name == "nll_loss2d_forward" and argument.name == "self" else 1
                times = 2 if argument.name in _TWICE.get(call.name, ()) and call.arguments.get("training", True) else 1
                read += int(extent(x) * share * times)
            largest = max(largest, x.numel())
    if not written:  # a view
        return Work(call.name, 0, 0, 0.0)
    return Work(call.name, read, written, float(OPERATIONS.get(call.name, 1) * largest))


def _convolution(call: Call) -> list[Work]:
    """A convolution's kernels, or those of its backward, and the copies before them."""
    x, weight = call["input"], call["weight"]
    if call.name == "convolution":
        out = call.result
        operations = _products(out, weight)
        works = [_kernel("convolution", (x, weight, call["bias"]), out, operations)]
        return [*_dense_copies(x, weight), *works]
    grad = call["grad_output"]
    operations = _products(grad, weight)
    grad_x, grad_weight, grad_bias = call.result
    wants_x, wants_weight, wants_bias = call["output_mask"]
    works = _dense_copies(grad)
    if wants_x:
        works += _dense_copies(weight)
        works.append(_kernel("convolution, data gradient", (grad, weight), grad_x, operations))
    if wants_weight:
        works += _dense_copies(x)
        works.append(_kernel("convolution, weight gradient", (grad, x), grad_weight, operations))
    if wants_bias:
        works.append(_kernel("convolution, bias gradient", (grad,), grad_bias, float(grad.numel())))
    return works


def _products(out: Tensor, weight: Tensor) -> float:
    return 2.0 * out.numel() * weight[0].numel()


def _kernel(name: str, reads: tuple[Tensor | None, ...], writes: Tensor, operations: float) -> Work:
    return Work(name, sum(extent(x) for x in reads if x is not None), extent(writes), operations)


def _dense_copies(*arguments: Tensor) -> list[Work]:
    return [
        Work("copy for a convolution", extent(x), x.numel() * x.element_size(), 0.0)
        for x in arguments
        if not (x.is_contiguous() or _is_channels_last(x))
    ]


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)
