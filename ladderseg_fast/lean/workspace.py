"""Buffers that are reused from stage to stage and from step to step.

Fresh pages cost several times what rewriting costs (ALGORITHMS.md section 6), so a buffer whose tensor is gone goes
back to the pool instead of to the allocator.
"""

import math
import threading
import weakref

import torch
from torch import Tensor


class Workspace:
    """A pool of buffers for the feature maps of one model's lean steps.

    `take` hands out a tensor; its buffer returns to the pool when that tensor object is gone. So whoever slices a
    tensor of the pool must hold on to the tensor itself, and none of them may reach the user. Copies and pickles of a
    workspace are empty. Several threads may share one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._free: dict[int, Tensor] = {}  # by id(); its single operations are atomic, as finalizers need

    def take(self, like: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
        """Uninitialised channels_last [n, c, h, w] of the dtype and device of `like`."""
        count = math.prod((n, c, h, w))
        buffer = self._find(count * like.element_size(), like.device)
        if buffer is None:
            buffer = torch.empty(count * like.element_size(), dtype=torch.uint8, device=like.device)
        flat = buffer[: count * like.element_size()].view(like.dtype)
        tensor = flat.view(n, h, w, c).permute(0, 3, 1, 2)
        weakref.finalize(tensor, self._free.__setitem__, id(buffer), buffer).atexit = False
        return tensor

    def release(self) -> None:
        """Give the free buffers back to the allocator."""
        with self._lock:
            self._free.clear()

    def _find(self, size: int, device: torch.device) -> Tensor | None:
        """The smallest free buffer of at least `size` bytes, taken out of the pool.

        If there is none, as many bytes of smaller ones go back to the allocator as it will be asked for: the pool
        never holds much more than the largest step needed at once.
        """
        with self._lock:
            here = sorted((b for b in list(self._free.values()) if b.device == device), key=Tensor.numel)
            for buffer in here:
                if buffer.numel() >= size:
                    return self._free.pop(id(buffer))
            dropped = 0
            while here and dropped < size:
                buffer = here.pop()
                dropped += buffer.numel()
                del self._free[id(buffer)]
            return None

    def __deepcopy__(self, memo: dict) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple:
        return Workspace, ()
