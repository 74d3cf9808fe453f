"""Buffers that are reused from stage to stage and from step to step.

Fresh pages cost several times what rewriting costs (ALGORITHMS.md section 6), so memory whose tensor is gone goes back
to the workspace instead of to the allocator.
"""

import math
import threading
import weakref
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..ops.layout import fresh_buffer

#: Sizes are rounded up to whole pages, so that no two tensors share one.
_PAGE = 4096


class Workspace:
    """Memory for the feature maps of one model's lean steps.

    `take` hands out a tensor; its memory returns to the workspace when that tensor object is gone. So whoever slices a
    tensor of the workspace must hold on to the tensor itself, and none of them may reach the user. Several tensors may
    lie in one buffer; free neighbours become one. Buffers that nothing lies in are let go, the largest first, before a
    fresh one would make the workspace larger than what was in use at once. Copies and pickles of a workspace are empty.
    Several threads may share one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a finalizer may run in a thread that holds it
        self._buffers: list[_Buffer] = []
        self._in_use = 0  # bytes
        self._most_in_use = 0

    def take(self, like: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
        """Uninitialised channels_last [n, c, h, w] of the dtype and device of `like`."""
        count = math.prod((n, c, h, w)) * like.element_size()
        size = max(_PAGE, -(-count // _PAGE) * _PAGE)
        with self._lock:
            buffer, start = self._find(size, like.device)
            self._in_use += size
            self._most_in_use = max(self._most_in_use, self._in_use)
        tensor = buffer.data[start : start + count].view(like.dtype).view(n, h, w, c).permute(0, 3, 1, 2)
        weakref.finalize(tensor, self._give_back, buffer, start, size).atexit = False
        return tensor

    def release(self) -> None:
        """Give the buffers that nothing lies in back to the allocator."""
        with self._lock:
            self._buffers = [buffer for buffer in self._buffers if not buffer.empty]
            self._most_in_use = self._in_use

    @property
    def held(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.size for buffer in self._buffers)

    def _find(self, size: int, device: torch.device) -> tuple["_Buffer", int]:
        """The smallest gap that `size` bytes fit in, taken; in a fresh buffer if there is none."""
        gaps = [(length, i) for i, b in enumerate(self._buffers) if b.data.device == device for length in b.fitting(size)]
        if gaps:
            buffer = self._buffers[min(gaps)[1]]
        else:
            self._make_room(max(self._most_in_use, self._in_use + size) - size)
            buffer = _Buffer(fresh_buffer(size, device))
            self._buffers.append(buffer)
        return buffer, buffer.take(size)

    def _make_room(self, limit: int) -> None:
        """Let go of empty buffers, the largest first, until all take `limit` bytes at most."""
        for buffer in sorted((b for b in self._buffers if b.empty), key=lambda b: b.size, reverse=True):
            if self.held <= limit:
                return
            self._buffers.remove(buffer)

    def _give_back(self, buffer: "_Buffer", start: int, size: int) -> None:
        with self._lock:
            self._in_use -= size
            buffer.give_back(start, size)

    def __deepcopy__(self, memo: dict) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple:
        return Workspace, ()


@dataclass(eq=False)
class _Buffer:
    """A block of memory, and the gaps in it that nobody uses: their sizes by where they start."""

    data: Tensor
    gaps: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = self.data.numel()
        self.gaps = {0: self.size}

    @property
    def empty(self) -> bool:
        return self.gaps.get(0) == self.size

    def fitting(self, size: int) -> list[int]:
        return [length for length in self.gaps.values() if length >= size]

    def take(self, size: int) -> int:
        """Where `size` bytes begin that now are in use: in the smallest gap that fits."""
        length, start = min((length, start) for start, length in self.gaps.items() if length >= size)
        del self.gaps[start]
        if length > size:
            self.gaps[start + size] = length - size
        return start

    def give_back(self, start: int, size: int) -> None:
        after = self.gaps.pop(start + size, None)
        if after is not None:
            size += after
        for before, length in self.gaps.items():
            if before + length == start:
                self.gaps[before] += size
                return
        self.gaps[start] = size
