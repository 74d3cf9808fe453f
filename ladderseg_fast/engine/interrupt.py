"""Ctrl-C at a moment that suits the loop."""

import signal
import threading
from types import FrameType, TracebackType


class InterruptRequest:
    """While active, the first Ctrl-C only sets `pending`; a second one interrupts at once, as usual.

    Where Ctrl-C is ignored (nohup, background jobs) it stays ignored. It only ever reaches the main thread,
    so in another one there is nothing to do.
    """

    def __init__(self) -> None:
        self.pending = False
        self._previous = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._active = in_main_thread and self._previous is not signal.SIG_IGN

    def __enter__(self) -> "InterruptRequest":
        if self._active:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.pending = True
        signal.signal(signal.SIGINT, self._previous)


def ignore_interrupts(worker: int) -> None:
    """For DataLoader's `worker_init_fn`: Ctrl-C reaches the workers too, but the main process decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
