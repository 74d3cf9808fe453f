"""Ctrl-C and SIGTERM at a moment that suits the loop."""

import signal
import threading
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptRequest:
    """While active, the first Ctrl-C or SIGTERM only sets `pending`; a second one acts at once, as usual.

    Where a signal is ignored (Ctrl-C under nohup and in background jobs) it stays ignored. Signals only ever reach the
    main thread, so in another one there is nothing to do.
    """

    def __init__(self) -> None:
        self.pending: signal.Signals | None = None
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._previous = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
        self._active = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "InterruptRequest":
        if self._active:
            for number in self._previous:
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.pending = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def ignore_interrupts(worker: int) -> None:
    """For DataLoader's `worker_init_fn`: Ctrl-C reaches the workers too, and so may SIGTERM; the main process decides."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
