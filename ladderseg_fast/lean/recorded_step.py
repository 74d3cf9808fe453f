"""A recorded step: where its memory lies, and how it is repeated.

Whatever the step makes and does not return lies in one arena. A block is in use from the first event to the last that
uses it, so that blocks of different times share a place.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import _core
from ..ops.backend import Backend
from .arena import Placement, Recording
from .recorder import OperatorCall, Recorder, View

#: Alignment of places in bytes, as that of torch's allocator on CUDA.
_ALIGNMENT = 512

#: Slot of the arena.
_ARENA = 0

#: Blocks that Placement places, the largest; it takes time that grows with the square of their number.
_MOST_LARGE = 400


class Arena(Protocol):
    """Memory from a workspace: see workspace.Arena."""

    address: int
    start: int
    views: Any

    def tensor(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor: ...


class RecordedPass:
    """The forward or the backward pass of a recorded step.

    Attributes:
        given: blocks of the tensors that exist before the pass.
        results: the tensors that the pass returns.
        items: ranges of launches, and calls of operators, each with the event at which it ends.
    """

    def __init__(self, recorder: Recorder, given: Sequence[int], results: Sequence[View | None]) -> None:
        """The pass that has just ended; what `recorder` recorded before belongs to earlier ones."""
        self.given = list(given)
        self.results = list(results)
        self.items: list[tuple[tuple[int, int] | OperatorCall, int]] = []
        start, calls = recorder.passed
        for launches, begin, end, call in recorder.calls[calls:]:
            if launches > start:
                self.items.append(((start, launches), begin))
            self.items.append((call, end))
            start = launches
        launches = recorder.launches.launches
        if launches > start:
            self.items.append(((start, launches), recorder.launches.events))
        recorder.passed = launches, len(recorder.calls)


class RecordedStep:
    """A forward pass, and the backward pass if there is one, that can be repeated.

    Attributes:
        size: bytes of the arena.
    """

    def __init__(self, recorder: Recorder, passes: Sequence[RecordedPass], kept: Iterable[int]) -> None:
        """kept: blocks that the backward pass may read, by whichever way it runs."""
        self._passes = list(passes)
        self._launches = recorder.launches
        self._made_by_torch = frozenset(recorder.made_by_torch)
        self._constants = recorder.constants
        sizes, spans = self._launches.block_bytes, dict(enumerate(self._launches.spans))
        for block in kept:
            first, last = spans[block]
            spans[block] = first, max(last, recorder.forward_events)
        outside = dict.fromkeys(block for each in passes for block in self._given_and_results(each))
        outside.update(dict.fromkeys((*self._made_by_torch, *self._constants)))
        inside = [block for block, (first, _) in spans.items() if first >= 0 and block not in outside]
        places, self.size = placed([sizes[block] for block in inside], [spans[block] for block in inside])
        self._places = dict(zip(inside, places))
        self._slots = {block: slot for slot, block in enumerate(outside, start=1)}
        slots = [_ARENA if block in self._places else self._slots.get(block, -1) for block in spans]
        self._launches.place(slots, [self._places.get(block, 0) for block in spans], 1 + len(outside))
        for block, tensor in self._constants.items():
            self._launches.set_base(self._slots[block], tensor.data_ptr())
        self._allocated = [
            [view for view in each.results if view is not None and view.block not in self._made_by_torch]
            for each in passes
        ]
        """Results that repeating a pass allocates, by pass."""
        self._given_slots = [_core.Slots([self._slots[block] for block in each.given]) for each in passes]
        """Slots of what is given to a pass, by pass."""
        self._used = [_used_by_calls(each, allocated) for each, allocated in zip(passes, self._allocated)]
        returned = {view.block for each in passes for view in each.results if view is not None}
        ends = {block: spans[block][1] for block in self._made_by_torch.difference(returned)}
        self._ended = [[_ended(ends, item, end) for item, end in each.items] for each in passes]
        """Blocks made by torch that are not used after an item, by pass and item."""

    @staticmethod
    def _given_and_results(each: RecordedPass) -> list[int]:
        return [*each.given, *(view.block for view in each.results if view is not None)]

    def repeat(
        self,
        number: int,
        given: Sequence[Tensor],
        addresses: _core.Addresses,
        arena: Arena,
        made: dict[int, Tensor],
        backend: Backend,
        device: torch.device,
    ) -> list[Tensor | None]:
        """Repeats pass `number` on the tensors `given`, in the order in which they were recorded; returns its results.

        addresses: those of the tensors given.
        made: tensors by their blocks that operators of torch have made in passes before, and now make.
        """
        this, views = self._passes[number], self._allocated[number]
        allocated = [torch.empty_strided(view.size, view.stride, dtype=view.dtype, device=device) for view in views]
        self._launches.set_base(_ARENA, arena.address)
        self._launches.set_bases(self._given_slots[number], addresses)
        for each, tensor in zip(views, allocated):
            self._launches.set_base(self._slots[each.block], tensor.data_ptr())
        of_given, of_allocated = self._used[number]
        tensors = self._constants | {block: given[i] for block, i in of_given.items()}
        tensors |= {block: allocated[i] for block, i in of_allocated.items()}
        calls = self._calls(number, arena)

        def tensor_of(view: View) -> Tensor:
            if view.block in tensors:
                return _viewed(tensors[view.block], view)
            return self.tensor(view, arena, made)

        for (item, _), call, ended in zip(this.items, calls, self._ended[number]):
            if not isinstance(item, OperatorCall):
                backend.repeat(self._launches, *item, device)
                continue
            arguments, named = call or (_replaced(item.arguments, tensor_of), _replaced(item.named, tensor_of))
            result = item.function(*arguments, **named)
            if item.results:
                self._keep(item, [result] if isinstance(result, Tensor) else result, made)
            for block in ended:
                made.pop(block, None)
        fresh = iter(allocated)
        results: list[Tensor | None] = []
        for view in this.results:
            if view is None:
                results.append(None)
            elif view.block in self._made_by_torch:
                results.append(_viewed(made.pop(view.block), view))
            else:
                results.append(next(fresh))
        return results

    def tensor(self, view: View, arena: Arena, made: dict[int, Tensor]) -> Tensor:
        """A tensor that the forward pass has left for the backward pass."""
        if view.block in made:
            return _viewed(made[view.block], view)
        return arena.tensor(self._places[view.block] + view.offset, view.size, view.stride, view.dtype)

    def _keep(self, call: OperatorCall, results: Sequence[Tensor | None], made: dict[int, Tensor]) -> None:
        """Stores what an operator has made, in the memory order that launches expect."""
        for view, result in zip(call.results, results, strict=True):
            if view is None or result is None:
                continue
            if result.stride() != view.stride or result.storage_offset() != 0:
                result = torch.empty_strided(view.size, view.stride, dtype=view.dtype, device=result.device).copy_(
                    result
                )
            made[view.block] = result
            self._launches.set_base(self._slots[view.block], result.untyped_storage().data_ptr())

    def _calls(self, number: int, arena: Arena) -> list[tuple[Any, Any] | None]:
        """Arguments of the calls that use nothing but the arena, whose tensors are made once; None for others."""
        known = arena.views.setdefault(self, {})
        key = number, arena.start
        if key not in known:
            known[key] = [self._static(item, arena) for item, _ in self._passes[number].items]
        return known[key]

    def _static(self, item: tuple[int, int] | OperatorCall, arena: Arena) -> tuple[Any, Any] | None:
        if not isinstance(item, OperatorCall):
            return None
        if not all(block in self._places for block in _blocks_of(item)):
            return None

        def tensor_of(view: View) -> Tensor:
            return self.tensor(view, arena, {})

        return _replaced(item.arguments, tensor_of), _replaced(item.named, tensor_of)


def _used_by_calls(each: RecordedPass, allocated: Sequence[View]) -> tuple[dict[int, int], dict[int, int]]:
    """The blocks that calls of operators use, by the numbers of tensors given to a pass, and of those it allocates."""
    used = {block for item, _ in each.items if isinstance(item, OperatorCall) for block in _blocks_of(item)}
    given = {block: i for i, block in enumerate(each.given) if block in used}
    return given, {view.block: i for i, view in enumerate(allocated) if view.block in used}


def _blocks_of(call: OperatorCall) -> list[int]:
    """The blocks of a call's arguments."""
    blocks: list[int] = []
    _replaced((call.arguments, call.named), lambda view: blocks.append(view.block))
    return blocks


def _ended(ends: dict[int, int], item: object, end: int) -> list[int]:
    """Blocks that no event from `end` on uses, if `item` is a call; takes them out of `ends`, their last events."""
    ended = [block for block, last in ends.items() if last < end] if isinstance(item, OperatorCall) else []
    for block in ended:
        del ends[block]
    return ended


def _viewed(tensor: Tensor, view: View) -> Tensor:
    """The part `view` of a block that starts where `tensor` does."""
    if view.offset == 0 and tensor.shape == view.size and tensor.stride() == view.stride:
        return tensor
    return tensor.as_strided(view.size, view.stride, tensor.storage_offset() + view.offset // view.dtype.itemsize)


def _replaced(value: Any, tensor_of: Callable[[View], Any]) -> Any:
    """`value` with tensors for Views."""
    if isinstance(value, View):
        return tensor_of(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_replaced(each, tensor_of) for each in value)
    if isinstance(value, dict):
        return {key: _replaced(each, tensor_of) for key, each in value.items()}
    return value


def placed(sizes: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """Places blocks of these sizes in an arena; blocks whose spans (first event, last event) overlap lie apart.

    Returns the places in bytes, and the arena's size. The largest blocks are placed as well as possible, the others
    behind them in the order of time.
    """
    rounded = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
    order = sorted(range(len(sizes)), key=lambda i: -rounded[i])
    large, small = sorted(order[:_MOST_LARGE]), sorted(order[_MOST_LARGE:], key=lambda i: spans[i])
    starts = [0] * len(sizes)
    total = 0
    if large:
        clock = max(spans[i][1] for i in large) + 1
        placement = Placement.of(
            Recording([rounded[i] for i in large], [(spans[i][0], spans[i][1] + 1) for i in large], clock)
        )
        total = placement.size
        for i, start in zip(large, placement.starts):
            starts[i] = start
    bottom, gaps = total, _Gaps()
    ends: list[tuple[int, int]] = []  # last event and number of the blocks in use
    for i in small:
        while ends and ends[0][0] < spans[i][0]:
            _, ended = ends.pop(0)
            gaps.free(starts[ended], rounded[ended])
        found = gaps.take(rounded[i])
        starts[i] = total if found is None else found
        total += rounded[i] if found is None else 0
        insort(ends, (spans[i][1], i))
    assert bottom <= total
    return starts, total


class _Gaps:
    """Free memory between blocks."""

    def __init__(self) -> None:
        self._gaps: list[tuple[int, int]] = []  # start and size, in order

    def take(self, size: int) -> int | None:
        """Start of `size` bytes in the smallest gap that has them."""
        best = min(((length, i) for i, (_, length) in enumerate(self._gaps) if length >= size), default=None)
        if best is None:
            return None
        length, i = best
        start, _ = self._gaps[i]
        self._gaps[i : i + 1] = [(start + size, length - size)] if length > size else []
        return start

    def free(self, start: int, size: int) -> None:
        i = bisect_left(self._gaps, (start, 0))
        if i < len(self._gaps) and self._gaps[i][0] == start + size:
            size += self._gaps.pop(i)[1]
        if i and sum(self._gaps[i - 1]) == start:
            start, before = self._gaps.pop(i - 1)
            size, i = size + before, i - 1
        self._gaps.insert(i, (start, size))
