"""Checks whose result is on a CUDA device: the host does not wait for it, so a later check raises the error."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

#: Tuples of (done, the number on the host, function that gives the message).
_pending: deque[tuple[torch.cuda.Event, Tensor, Callable[[int], str]]] = deque()


def expect(index: Tensor, message: Callable[[int], str]) -> None:
    """Checks that `index`, a scalar int64, is -1.

    Raises:
        ValueError: `index` is not -1; the text is message(index). For a tensor on CUDA, a later call of this function
            raises it, once the device has computed `index`. Captures of CUDA graphs are not checked.
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
    # Never this call's own result, even if the device is done: which call raises would depend on timing.
    while len(_pending) > 1 and _pending[0][0].query():
        _, found, say = _pending.popleft()
        if found >= 0:
            raise ValueError(say(int(found)))
