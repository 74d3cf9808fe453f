"""Buffers that are reused from stage to stage and from step to step.

Fresh pages cost several times what rewriting costs (ALGORITHMS.md section 6), so a buffer whose tensor is gone goes
back to the pool instead of to the allocator.
"""

import math
import threading
import weakref

import torch
from torch import Tensor

from ..ops.layout import fresh_buffer


class Workspace:
    """A pool of buffers for the feature maps of one model's lean steps.

    `take` hands out a tensor; its buffer returns to the pool when that tensor object is gone. So whoever slices a
    tensor of the pool must hold on to the tensor itself, and none of them may reach the user. The pool holds no more
    bytes than were in use at once. Copies and pickles of a workspace are empty. Several threads may share one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a finalizer may run in a thread that holds it
        self._free: list[Tensor] = []
        self._in_use = 0  # bytes
        self._most_in_use = 0

    def take(self, like: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
        """Uninitialised channels_last [n, c, h, w] of the dtype and device of `like`."""
        size = math.prod((n, c, h, w)) * like.element_size()
        buffer = self._take_buffer(size, like.device)
        tensor = buffer[:size].view(like.dtype).view(n, h, w, c).permute(0, 3, 1, 2)
        weakref.finalize(tensor, self._give_back, buffer).atexit = False
        return tensor

    def release(self) -> None:
        """Give the free buffers back to the allocator."""
        with self._lock:
            self._free.clear()
            self._most_in_use = self._in_use

    def _take_buffer(self, size: int, device: torch.device) -> Tensor:
        """`size` bytes or somewhat more: from the pool if it has a buffer of about that size, else fresh."""
        with self._lock:
            fitting = [b for b in self._free if b.device == device and size <= b.numel() <= 2 * size]
            if fitting:
                buffer = min(fitting, key=Tensor.numel)
                self._free = [b for b in self._free if b is not buffer]
            else:
                self._most_in_use = max(self._most_in_use, self._in_use + size)
                self._make_room(self._most_in_use - self._in_use - size)
                buffer = fresh_buffer(size, device)
            self._in_use += buffer.numel()
            self._most_in_use = max(self._most_in_use, self._in_use)
            return buffer

    def _make_room(self, limit: int) -> None:
        """Let go of free buffers, the largest first, until they take `limit` bytes at most."""
        self._free.sort(key=Tensor.numel)
        while self._free and sum(map(Tensor.numel, self._free)) > limit:
            self._free.pop()

    def _give_back(self, buffer: Tensor) -> None:
        with self._lock:
            self._in_use -= buffer.numel()
            self._free.append(buffer)

    def __deepcopy__(self, memo: dict) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple:
        return Workspace, ()
