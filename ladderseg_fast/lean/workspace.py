"""Buffers that are reused from stage to stage and from step to step.

Fresh pages cost several times what rewriting costs (ALGORITHMS.md section 6), so the memory of a freed tensor returns
to the workspace instead of to the allocator.
"""

import functools
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from enum import Enum, auto
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor

from ..ops.backend import backend_of
from ..ops.layout import fresh_buffer, give_back_freed, give_back_pages
from . import recorder
from .arena import Placement, Recording
from .recordings import Recordings

#: Sizes are rounded up to whole pages, so that no two tensors share one.
_PAGE = 4096

#: Largest number of kinds of steps (training and validation at a few sizes, say) whose placements are kept.
_MAX_PLACEMENTS = 8

_CACHE_LINE = 64
#: Pixels whose distance is a multiple of so many bytes use only a fraction of the sets of a cache.
_ALIASING = 512


class Phase(Enum):
    """Phase of a step that a stage enters."""

    FORWARD = auto()
    AGAIN = auto()
    """Before the stage's backward: the features that it needs and that were not kept are recomputed."""
    BACKWARD = auto()


class _Use(weakref.ref[object]):
    """A tensor or an arena, and the place in the workspace that returns when it is gone."""

    __slots__ = ("buffer", "number", "owner", "recording", "size", "start")

    buffer: "_Buffer"
    start: int
    size: int
    recording: Recording | None
    number: int | None
    owner: Hashable


class _Memory:
    """Accounts of a workspace, all of which must fit together.

    The end of a tensor is noted by the interpreter alone, without a line of Python: nothing can interrupt that, in
    whichever thread the tensor ends.
    """

    def __init__(self) -> None:
        self.buffers: list[_Buffer] = []
        self.in_use = 0  # bytes
        self.most_in_use = 0
        self.key: Hashable = None
        self.recording: Recording | None = None  # of the current step
        self.arenas: dict[Hashable, int] = {}  # bytes by owner
        self.most_in_arenas = 0
        self._held: dict[int, _Use] = {}  # by id: comparing references compares tensors
        self._gone: deque[_Use] = deque()

    def hold(
        self,
        user: object,
        buffer: "_Buffer",
        start: int,
        size: int,
        recording: Recording | None = None,
        number: int | None = None,
        owner: Hashable = None,
    ) -> None:
        """Notes that `size` bytes of `buffer` from `start` on are in use until `user` is gone."""
        use = _Use(user, self._gone.append)
        use.buffer, use.start, use.size = buffer, start, size
        use.recording, use.number, use.owner = recording, number, owner
        self._held[id(use)] = use
        self.in_use += size

    def settle(self) -> None:
        """Takes back the places of what is gone."""
        while self._gone:
            use = self._gone.popleft()
            del self._held[id(use)]
            self.in_use -= use.size
            use.buffer.give_back(use.start, use.size)
            if use.recording is not None and use.number is not None:
                use.recording.give_back(use.number)
            if use.owner is not None:
                del self.arenas[use.owner]


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _whole(
    method: "Callable[Concatenate[Workspace, _Parameters], _Result]",
) -> "Callable[Concatenate[Workspace, _Parameters], _Result]":
    """Makes a method hold the lock, and see all places of what is gone as free.

    If it fails, for lack of memory or because the user interrupts it, the workspace begins anew: what it knew may not
    fit together. Tensors that are in use keep their memory.
    """

    @functools.wraps(method)
    def locked(self: "Workspace", *arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
        with self._lock:
            try:
                self._memory.settle()
                return method(self, *arguments, **named)
            except BaseException:
                self._memory = _Memory()
                raise

    return locked


class Workspace:
    """Memory for the feature maps of one model's lean steps.

    `take` hands out a tensor; its memory returns to the workspace when that tensor object is gone. So code that slices
    a tensor of the workspace must hold the tensor itself, and no such tensor may reach the user. Several tensors may
    lie in one buffer; free neighbours become one gap. The workspace never takes more memory than was in use at once:
    before it would, it returns the pages of gaps to the system.

    A step takes the same maps in the same order as the one before. So the workspace records what a step takes, and from
    the second step on places its maps by a Placement, in one buffer on pages that the previous step has used. With
    placements known beforehand (`expect`), it does so from the first step on.

    Copies and pickles of a workspace are empty. Several threads may share one. An error in the middle of a step, or the
    user's interrupt, leaves it usable.

    Attributes:
        recordings: recorded steps of the programs that use the workspace.
    """

    #: Whether steps may be repeated without calls of `take` and `enter`; subclasses observe these.
    repeats_steps = True

    def __init_subclass__(cls) -> None:
        cls.repeats_steps = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memory = _Memory()
        self._owned: WeakValueDictionary[Hashable, Arena] = WeakValueDictionary()  # by owner, whatever fails
        self._captured: set[_Buffer] = set()  # in CUDA graphs, which do not keep them
        self._spread = True
        self._placements: dict[Hashable, Placement] = {}  # by the key of the steps
        self.recordings = Recordings()
        self._constants: dict[tuple[float, int, torch.dtype, torch.device], Tensor] = {}

    @_whole
    def begin(self, key: Hashable, device: torch.device, spread: bool = True) -> None:
        """Begins a step of kind `key`: steps with the same key most likely take the same maps.

        Without `spread` the maps are as small as possible, whatever `take` is asked for.
        """
        self._spread = spread
        if self._end_recording():  # or else an earlier step has not ended, so this one is not like those recorded
            self._memory.key, self._memory.recording = key, Recording()
            placement = self._placements.get(key)
            if placement is not None:
                self._prepare_arena(placement.size, device)
        self._keep_captured(device)

    @_whole
    def take_arena(self, owner: Hashable, size: int, device: torch.device) -> "Arena | None":
        """Takes `size` bytes for a step that places its maps by itself; they return when the arena is gone.

        None if `owner` has another one, or if a step that takes single maps has not ended.

        Raises:
            RuntimeError: the device does not have enough memory.
        """
        memory, size = self._memory, max(_PAGE, -(-size // _PAGE) * _PAGE)
        others = not self._end_recording() and sum(memory.arenas.values()) < memory.in_use
        if others or owner in self._owned:
            return None
        memory.arenas[owner] = size
        memory.most_in_arenas = max(memory.most_in_arenas, sum(memory.arenas.values()))
        memory.most_in_use = max(memory.most_in_use, memory.in_use + size)
        if memory.in_use == 0:
            self._prepare_arena(memory.most_in_arenas, device)
        buffer, start = self._find(size, device)
        arena = Arena(buffer, start)
        self._owned[owner] = arena
        memory.hold(arena, buffer, start, size, owner=owner)
        self._keep_captured(device)
        return arena

    def _end_recording(self) -> bool:
        """Ends the recording of the step before; False, and it is lost, if that step has not ended."""
        recording, self._memory.recording = self._memory.recording, None
        if self._memory.in_use:
            return False
        if recording is not None and recording.sizes:
            key = self._memory.key
            placement = self._placements.get(key)
            if placement is None or placement.sizes != recording.sizes:
                placement = Placement.of(recording)
            self._remember({key: placement})
        return True

    def _keep_captured(self, device: torch.device) -> None:
        """Keeps the buffers if the step that begins is captured into a CUDA graph, which uses them whenever it runs.

        Those that it makes later lie in the graph's own memory.
        """
        if backend_of(device).is_capturing(device):
            self._captured.update(self._memory.buffers)

    @_whole
    def expect(self, placements: Mapping[Hashable, Placement]) -> None:
        """Announces that steps with these keys take the maps of these placements, from the first step on."""
        self._remember(placements)

    def enter(self, stage: Hashable, phase: Phase) -> None:
        """Called when a stage of the step begins a phase; for subclasses that observe steps."""

    def take(self, like: Tensor, n: int, c: int, h: int, w: int, *, spread: bool = False) -> Tensor:
        """Returns an uninitialised pixel-major [n, c, h, w] with the dtype and device of `like`.

        With `spread`, pixels whose channels take a multiple of 512 bytes lie a cache line farther apart: otherwise the
        same channels of all pixels would compete for a few sets of the caches.
        """
        tensor, size = self._take(like, n, c, h, w, spread)
        if (at_work := recorder.active()) is not None:
            at_work.launches.add_block(tensor.data_ptr(), size)
        return tensor

    @_whole
    def _take(self, like: Tensor, n: int, c: int, h: int, w: int, spread: bool) -> tuple[Tensor, int]:
        """The tensor of `take`, and the bytes that it takes."""
        memory, spread = self._memory, spread and self._spread
        row = _row(c, like.element_size(), spread)
        count = math.prod((n, row, h, w)) * like.element_size()
        size = map_bytes(n, c, h, w, like.element_size(), spread)
        memory.most_in_use = max(memory.most_in_use, memory.in_use + size)
        recording = memory.recording
        number = None if recording is None else recording.take(size)
        buffer, start = self._find_placed(number, size, like.device) or self._find(size, like.device)
        tensor = buffer.data[start : start + count].view(like.dtype).view(n, h, w, row).permute(0, 3, 1, 2)[:, :c]
        tensor = tensor.data  # autograd must count its changes, not those of its neighbours in the buffer
        memory.hold(tensor, buffer, start, size, recording, number)
        return tensor, size

    def constant(self, value: float, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A vector [count] of equal numbers, made once. Nothing may write to it.

        It stays until `release`: CUDA graphs may read it, which do not keep it.
        """
        key = value, count, dtype, device
        with self._lock:
            vector = self._constants.get(key)
            if vector is None:
                vector = torch.empty(count, dtype=dtype, device=device).fill_(value)
                if not backend_of(device).is_capturing(device):  # a CUDA graph makes it again whenever it runs
                    self._constants[key] = vector
        if (at_work := recorder.active()) is not None:
            at_work.add_constant(vector)
        return vector

    @_whole
    def release(self) -> None:
        """Returns memory that is not in use to the system. CUDA graphs of earlier steps must not run any more."""
        memory = self._memory
        self._captured.clear()
        self._constants.clear()
        memory.most_in_use = memory.in_use
        self._placements.clear()
        self.recordings.clear()
        memory.most_in_arenas = sum(memory.arenas.values())
        memory.recording = None
        self._shrink(memory.in_use)

    @property
    def resident(self) -> int:
        """Bytes of memory that the workspace holds, in use or not."""
        return sum(buffer.resident for buffer in self._memory.buffers)

    @property
    def arena_size(self) -> int:
        """Bytes of the block for steps like the latest one; 0 before the second such step."""
        placement = self._placements.get(self._memory.key)
        return 0 if placement is None else placement.size

    @property
    def in_use(self) -> int:
        """Bytes of memory that are in use."""
        return self._settled().in_use

    @property
    def recording(self) -> tuple[Hashable, Recording | None]:
        """Key and recording of the step that is under way; None instead of the latter if it is not recorded."""
        memory = self._settled()
        return memory.key, memory.recording

    @_whole
    def _settled(self) -> _Memory:
        return self._memory

    def _remember(self, placements: Mapping[Hashable, Placement]) -> None:
        """Stores these placements as the latest."""
        others = {key: placement for key, placement in self._placements.items() if key not in placements}
        self._placements = dict(list((others | dict(placements)).items())[-_MAX_PLACEMENTS:])

    def _prepare_arena(self, size: int, device: torch.device) -> None:
        """Makes a buffer of at least `size` bytes the only one; no buffer is in use at this point."""
        fitting = [buffer for buffer in self._memory.buffers if buffer.size >= size and buffer.data.device == device]
        arena = min(fitting, key=lambda buffer: buffer.size, default=None)
        replaced = bool(self._memory.buffers) and arena is None
        self._memory.buffers.clear()
        if replaced:
            give_back_freed(device)
        self._memory.buffers.append(arena or _Buffer(fresh_buffer(size, device)))

    def _find_placed(self, number: int | None, size: int, device: torch.device) -> "tuple[_Buffer, int] | None":
        """Place of map `number` in the placement; None if the step departs from it or the place is in use."""
        placement = self._placements.get(self._memory.key)
        if number is None or placement is None or number >= len(placement.sizes) or placement.sizes[number] != size:
            return None
        arena, start = self._memory.buffers[0], placement.starts[number]
        if arena.data.device != device or not arena.take_at(start, size):
            return None
        return arena, start

    def _find(self, size: int, device: torch.device) -> tuple["_Buffer", int]:
        """Place for `size` bytes: in the gap with the fewest absent pages and the best fit, or in a fresh buffer."""
        fitting = [
            (buffer.absent_in(start, start + size), length, i, start)
            for i, buffer in enumerate(self._memory.buffers)
            if buffer.data.device == device
            for start, length in buffer.gaps.items()
            if length >= size
        ]
        absent, _, i, start = min(fitting, default=(size, size, None, 0))
        if i is not None:
            buffer = self._memory.buffers[i]
            buffer.take(start, size)
            self._shrink(self._memory.most_in_use)
        else:
            self._shrink(self._memory.most_in_use - size)
            buffer = _Buffer(fresh_buffer(size, device))
            buffer.take(start, size)
            self._memory.buffers.append(buffer)
        return buffer, start

    def _shrink(self, limit: int) -> None:
        """Frees pages in gaps, the largest first, until the workspace takes at most `limit` bytes."""
        excess = self.resident - limit
        if excess <= 0:
            return
        gaps = [(b.gap_resident(start), b, start) for b in self._memory.buffers for start in b.gaps]
        for resident, buffer, start in sorted(gaps, key=lambda gap: gap[0], reverse=True):
            if excess <= 0 or resident == 0:
                break
            if buffer.gaps[start] == buffer.size:
                self._memory.buffers.remove(buffer)
                excess -= resident
            elif buffer.let_go(start):
                excess -= resident

    def __deepcopy__(self, memo: dict) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple:
        return Workspace, ()


def map_bytes(n: int, c: int, h: int, w: int, element_size: int, spread: bool = False) -> int:
    """Bytes that Workspace.take(like, n, c, h, w, spread) takes."""
    size = n * _row(c, element_size, spread) * h * w * element_size
    return max(_PAGE, -(-size // _PAGE) * _PAGE)


def _row(channels: int, element_size: int, spread: bool) -> int:
    """Elements from pixel to pixel."""
    if spread and channels * element_size % _ALIASING == 0:
        return channels + _CACHE_LINE // element_size
    return channels


class Arena:
    """Memory of a workspace while one step uses it.

    Attributes:
        address: where it starts.
        views: what steps have made of the memory, by step and start; it is dropped with the memory.
    """

    def __init__(self, buffer: "_Buffer", start: int) -> None:
        self._data, self.start = buffer.data, start
        self.address = buffer.data.data_ptr() + start
        self.views = buffer.views

    def tensor(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor at `offset` bytes, a multiple of an element's."""
        start = (self._data.storage_offset() + self.start + offset) // dtype.itemsize
        like = torch.empty(0, dtype=dtype, device=self._data.device)
        return like.set_(self._data.untyped_storage(), start, size, stride)


class _Buffer:
    """A block of memory.

    gaps: sizes of the unused parts, by their starts.
    """

    def __init__(self, data: Tensor) -> None:
        self.data = data
        self.size = data.numel()
        self.gaps = {0: self.size}
        self._absent = [(0, self.size)]  # parts without pages, never touched
        self.views: WeakKeyDictionary[object, dict[Any, Any]] = WeakKeyDictionary()  # see Arena

    @property
    def resident(self) -> int:
        return self.size - self.absent_in(0, self.size)

    def absent_in(self, start: int, stop: int) -> int:
        """Bytes of [start, stop) that have no pages yet."""
        return sum(max(0, min(stop, b) - max(start, a)) for a, b in self._absent)

    def gap_resident(self, start: int) -> int:
        length = self.gaps[start]
        return length - self.absent_in(start, start + length)

    def take(self, start: int, size: int) -> None:
        """Uses the first `size` bytes of the gap at `start`."""
        length = self.gaps.pop(start)
        if length > size:
            self.gaps[start + size] = length - size
        self._remove_absent(start, start + size)

    def take_at(self, start: int, size: int) -> bool:
        """Uses `size` bytes at `start` if they lie in one gap; returns whether they do."""
        for before, length in self.gaps.items():
            if before <= start and start + size <= before + length:
                break
        else:
            return False
        if before < start:
            self.gaps[before] = start - before
            self.gaps[start] = before + length - start
        self.take(start, size)
        return True

    def give_back(self, start: int, size: int) -> None:
        size += self.gaps.pop(start + size, 0)
        for before, length in self.gaps.items():
            if before + length == start:
                self.gaps[before] += size
                return
        self.gaps[start] = size

    def let_go(self, start: int) -> bool:
        """Returns the pages of the gap at `start` to the system; False if the system cannot take them."""
        stop = start + self.gaps[start]
        if not give_back_pages(self.data[start:stop]):
            return False
        self._remove_absent(start, stop)
        self._absent.append((start, stop))
        return True

    def _remove_absent(self, start: int, stop: int) -> None:
        cut = [piece for a, b in self._absent for piece in ((a, min(b, start)), (max(a, stop), b))]
        self._absent = [(a, b) for a, b in cut if a < b]
