"""Bytes and operations of one call of a torch operator, by the rules of roofline_counts.py."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Launch:
    """Element type for which a kernel of ours is launched, number of blocks, and threads of a block."""

    element: str
    blocks: int
    threads: int


@dataclass(frozen=True)
class Work:
    """One launch of a kernel of ours, or one operator of torch."""

    name: str
    read_bytes: int
    written_bytes: int
    operations: float
    is_product: bool = False
    by_tensor_cores: bool = False
    stage: str = ""
    launch: Launch | None = None

    @property
    def moved_bytes(self) -> int:
        return self.read_bytes + self.written_bytes


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
        """Tensors that the call has made."""
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
    """Bytes of memory that the elements of x lie in; repeated elements count once."""
    if x.numel() == 0:
        return 0
    return math.prod(size for size, stride in zip(x.shape, x.stride()) if stride) * x.element_size()


#: Operators that only make a tensor.
_FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh")
#: Operators that overwrite their argument, or only look at its shape.
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


def works_of(call: Call) -> list[Work]:
    """Kernels that a call launches; none if it moves nothing."""
    works = _convolution(call) if call.name in ("convolution", "convolution_backward") else [_operator(call)]
    return [work for work in works if work.moved_bytes]


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
                read += _read_bytes(call, argument.name, x)
            largest = max(largest, x.numel())
    if not written:  # a view
        return Work(call.name, 0, 0, 0.0)
    return Work(call.name, read, written, float(OPERATIONS.get(call.name, 1) * largest))


def _read_bytes(call: Call, argument: str, x: Tensor) -> int:
    if call.name == "nll_loss2d_forward" and argument == "self":  # [N, K, H, W]: the label's score alone
        return extent(x) // x.shape[1]
    twice = argument in _TWICE.get(call.name, ()) and call.arguments.get("training", call.arguments.get("train"))
    return 2 * extent(x) if twice else extent(x)


def _convolution(call: Call) -> list[Work]:
    """Kernels of a convolution, or of its backward, and the copies before them."""
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
    return Work(name, sum(extent(x) for x in reads if x is not None), extent(writes), operations, is_product=True)


def _dense_copies(*arguments: Tensor) -> list[Work]:
    return [
        Work("copy for a convolution", extent(x), x.numel() * x.element_size(), 0.0)
        for x in arguments
        if not (x.is_contiguous() or is_channels_last(x))
    ]


def is_channels_last(x: Tensor) -> bool:
    """Whether x is dense, with the channels of a pixel side by side."""
    return x.is_contiguous(memory_format=torch.channels_last)
