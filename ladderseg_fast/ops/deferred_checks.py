"""Checks whose result is on a CUDA device: the host does not wait for it, so the error comes with a later check."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

#: (done, the number on the host, what to say)
_pending: deque[tuple[torch.cuda.Event, Tensor, Callable[[int], str]]] = deque()


def expect(index: Tensor, message: Callable[[int], str]) -> None:
    """Checks that `index`, a scalar int64, is -1.

    Raises:
        ValueError: with message(index), if it is not. For a tensor on CUDA, a later call of this function raises it,
            when the device has come so far; never during the capture of a CUDA graph, where nothing can be looked at.
    """
    if index.device.type == "meta":
        return
    if index.device.type == "cpu":
        if index >= 0:
            raise ValueError(message(int(index)))
        return
    if torch.cuda.is_current_stream_capturing():
        return
    host = torch.empty((), dtype=torch.int64, pin_memory=True)
    host.copy_(index, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(index.device))
    _pending.append((done, host, message))
    # Never this call's own, not even where the device has been quick: its error would come now here and later there.
    while len(_pending) > 1 and _pending[0][0].query():
        _, found, say = _pending.popleft()
        if found >= 0:
            raise ValueError(say(int(found)))
