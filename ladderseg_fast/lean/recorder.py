"""Recording of a pass while it runs: the launches of kernels, the calls of torch's operators, the memory of both."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .. import _core

_aten = torch.ops.aten


@dataclass(frozen=True)
class View:
    """A tensor in a block of memory; `offset` is in bytes from the block's start."""

    block: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class OperatorCall:
    """A call of one of torch's operators, with Views in place of tensors."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    results: list[View | None] = field(default_factory=list)
    """Tensors that the call makes; empty if it writes to its arguments alone."""


#: Operators that give uninitialised tensors: only their memory matters.
_EMPTY = {
    _aten.empty.memory_format,
    _aten.empty_strided.default,
    _aten.empty_like.default,
    _aten.new_empty.default,
    _aten.new_empty_strided.default,
}

#: Operators that write to their first argument and read the others.
_IN_PLACE = {
    _aten.copy_.default,
    _aten.zero_.default,
    _aten.fill_.Scalar,
    _aten.add_.Tensor,
    _aten.sub_.Tensor,
    _aten.mul_.Tensor,
    _aten.div_.Tensor,
    _aten.addcmul_.default,
    _aten.bernoulli_.float,  # repeated, it takes the generator's next numbers
}

#: Operators whose results get places in the arena, and the form of each that writes to a given result.
_WITH_RESULT = {
    _aten.cat.default: _aten.cat.out,
    _aten.lerp.Scalar: _aten.lerp.Scalar_out,
    _aten.add.Tensor: _aten.add.out,
    _aten.sub.Tensor: _aten.sub.out,
    _aten.mul.Tensor: _aten.mul.out,
    _aten.div.Tensor: _aten.div.out,
    _aten.sum.dim_IntList: _aten.sum.IntList_out,
}
_COPIES = {_aten._to_copy.default, _aten.clone.default}
_CONSTANT = {
    _aten.zeros.default: 0,
    _aten.zeros_like.default: 0,
    _aten.new_zeros.default: 0,
    _aten.ones.default: 1,
    _aten.ones_like.default: 1,
    _aten.new_ones.default: 1,
}

#: Other operators whose results depend on nothing but the values of their arguments.
_OTHERS = {
    _aten.convolution.default,
    _aten.convolution_backward.default,
    _aten.constant_pad_nd.default,
    _aten.div.Scalar,
    _aten.avg_pool2d.default,
    _aten.avg_pool2d_backward.default,
    _aten.mean.dim,
    _aten._adaptive_avg_pool2d.default,
    _aten._adaptive_avg_pool2d_backward.default,
    _aten.upsample_bilinear2d.default,
    _aten.upsample_bilinear2d_backward.default,
}


class Recorder(TorchDispatchMode):
    """Records the forward and the backward pass of one call of a program.

    `failure` says why the passes cannot be repeated: the first thing that the recorder does not know. A recorder holds
    no tensors but constants.

    Attributes:
        launches: the launches so far, and the blocks of memory.
        calls: calls of operators, each with the number of launches before it, and the events before and after it.
        passed: number of the launches and calls of the passes that have ended.
        forward_events: events of the forward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches = _core.RecordedLaunches()
        self.calls: list[tuple[int, int, int, OperatorCall]] = []
        self.passed = 0, 0
        self.forward_events = 0
        self.made_by_torch: set[int] = set()
        """Blocks that operators allocate when they are called again."""
        self.given: set[int] = set()
        """Blocks that are there before a pass."""
        self.constants: dict[int, Tensor] = {}
        """Tensors that are the same in all steps, by their blocks."""
        self._failure: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: to exclude the recorder from compilation, torch would import its compiler, for a second and 75 MB.

        Nothing compiles what is recorded. Releases of torch that do not ask do not import it either.
        """
        return False

    @property
    def failure(self) -> str | None:
        return self._failure or self.launches.failure or None

    def fail(self, reason: str) -> None:
        self._failure = self._failure or reason

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Region, in one thread, whose launches and operators are recorded."""
        before = active()
        try:
            self.launches.start()
            _recording.recorder = self
            with self:
                yield
        finally:
            _recording.recorder = before
            self.launches.stop()

    def add_tensors(self, tensors: Iterable[Tensor]) -> list[int]:
        """Announces the memory of tensors that are there before a pass, a block for each; returns the blocks."""
        blocks = [self.launches.add_block(tensor.data_ptr(), extent(tensor)) for tensor in tensors]
        self.given.update(blocks)
        return blocks

    def add_constant(self, tensor: Tensor) -> None:
        """Announces a contiguous tensor that nothing writes to."""
        found = self.launches.find(tensor.data_ptr(), tensor.nbytes)
        if found is None or found[0] not in self.constants:
            self.constants[self.launches.add_block(tensor.data_ptr(), tensor.nbytes)] = tensor

    def check_apart(self, tensors: Iterable[Tensor]) -> None:
        """Fails if tensors share memory: they might not do so when the pass is repeated."""
        taken = sorted((tensor.data_ptr(), extent(tensor)) for tensor in tensors)
        if any(start + size > next_start for (start, size), (next_start, _) in zip(taken, taken[1:])):
            self.fail("tensors share memory")

    def writes(self) -> Counter[int]:
        """Counts how often operators write to each block that was there before the pass."""
        first = (call.arguments[0] for *_, call in self.calls if call.function in _IN_PLACE)
        return Counter(view.block for view in first if view is not None and view.block in self.given)

    def view(self, tensor: Tensor) -> View | None:
        """The place of a tensor; None, and a failure, if its memory is unknown."""
        found = None
        if tensor.layout is torch.strided and tensor.numel() and not tensor.is_neg() and not tensor.is_conj():
            found = self.launches.find(tensor.data_ptr(), extent(tensor))
        if found is None:
            self.fail(f"a tensor {list(tensor.shape)} lies in memory of which the recording knows nothing")
            return None
        return View(*found, tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        if self._failure is None:
            self._note(function, arguments, named or {}, result)
        return result

    def _note(self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        if function in _EMPTY:
            self._add_storage(result)
        elif function in _IN_PLACE:
            if arguments[0].numel():
                self._add(function, arguments, named)
        elif function in _CONSTANT:
            self._add_storage(result)
            self._add(_aten.fill_.Scalar, (result, _CONSTANT[function]), {})
        elif function in _COPIES:
            self._add_storage(result)
            self._add(_aten.copy_.default, (result, arguments[0]), {})
        elif function in _WITH_RESULT:
            self._add_storage(result)
            self._add(_WITH_RESULT[function], arguments, named | {"out": result})
        elif function in _OTHERS:
            self._add_making(function, arguments, named, result)
        elif not _only_views(function, result, arguments):
            self.fail(f"{function} is not known")

    def _add(
        self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any], results: Sequence[Tensor | None] = ()
    ) -> None:
        used: list[int] = []
        call = OperatorCall(function, self._described(arguments, used), self._described(named, used))
        call.results = [None if each is None else self._whole(each, used) for each in results]
        begin = self.launches.events
        self.launches.use(used)
        self.calls.append((self.launches.launches, begin, self.launches.events, call))

    def _add_making(self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        results = [result] if isinstance(result, Tensor) else list(result)
        for each in results:
            if each is not None:
                self.made_by_torch.add(self._add_storage(each))
        self._add(function, arguments, named, results)

    def _whole(self, result: Tensor, used: list[int]) -> View | None:
        """The place of a tensor that an operator has made."""
        view = self._described(result, used)
        if view is not None and (view.offset or not is_dense(result)):
            self.fail("an operator has made a tensor with gaps")
        return view

    def _add_storage(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        return self.launches.add_block(storage.data_ptr(), storage.nbytes())

    def _described(self, value: Any, used: list[int]) -> Any:
        """`value` with Views for tensors, whose blocks are added to `used`."""
        if isinstance(value, Tensor):
            view = self.view(value)
            used += [] if view is None else [view.block]
            return view
        if isinstance(value, (tuple, list)):
            return type(value)(self._described(each, used) for each in value)
        if isinstance(value, dict):
            return {key: self._described(each, used) for key, each in value.items()}
        return value


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor's elements, in some order, lie side by side."""
    return extent(tensor) == tensor.numel() * tensor.element_size() == tensor.nbytes


def extent(tensor: Tensor) -> int:
    """Bytes from a tensor's first element to its last."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return (last + 1) * tensor.element_size()


def _only_views(function: Any, result: Any, arguments: Sequence[Any]) -> bool:
    """Whether a call only gives another view of an argument's memory."""
    if function is _aten.as_strided_.default or function.is_view:
        return True
    if function._schema.is_mutable or not isinstance(result, Tensor):
        return False
    address = result.untyped_storage().data_ptr()
    return any(isinstance(each, Tensor) and each.untyped_storage().data_ptr() == address for each in arguments)


class _OfThread(threading.local):
    recorder: Recorder | None = None


_recording = _OfThread()


def active() -> Recorder | None:
    """The recorder at work in this thread."""
    return _recording.recorder
