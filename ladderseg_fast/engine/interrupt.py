"""Signals handled at a moment that suits the loop: Ctrl-C, SIGTERM, a closing terminal, the end of a child process."""

import atexit
import mmap
import multiprocessing.util
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptRequest:
    """Sets `pending` at the first Ctrl-C, SIGTERM or SIGHUP while active; a second one acts at once, as usual.

    An ignored signal (SIGHUP under nohup, Ctrl-C in background jobs) stays ignored. Signals only ever reach the main
    thread, so in another thread there is nothing to do.
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


@contextmanager
def child_signals_held() -> Iterator[None]:
    """Block that is not left when a child process ends; the signal's handler runs at the end of the block.

    torch's handler raises an error when a process that loads images has died, wherever the main thread is just then.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGCHLD, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
    if held:
        handler(*held[-1])


def ignore_interrupts(worker: int) -> None:
    """Leaves signals that reach loader workers, such as Ctrl-C, to the main process (DataLoader's `worker_init_fn`).

    multiprocessing also ends workers with SIGTERM when the main process leaves; then they do end. Workers that are not
    forked cannot tell the two apart, and SIGTERM always ends them. Nor does torch see that the main process was killed
    where a server forks them, whose children they are: then a thread ends them.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if multiprocessing.get_start_method() == "fork":
        signal.signal(signal.SIGTERM, _end_if_main_leaves)
    else:
        threading.Thread(target=_end_after_main, daemon=True).start()


def _end_after_main() -> None:
    main = multiprocessing.parent_process()
    assert main is not None, "a loader worker has a main process"
    main.join()
    os._exit(1)


#: A byte that this process shares with those that it forks: 1 when it leaves.
_leaving = mmap.mmap(-1, 1)


# Functions that are registered later run earlier: this one before that of multiprocessing.util.
@atexit.register
def _leave() -> None:
    _leaving[0] = 1


def _end_if_main_leaves(number: int, frame: FrameType | None) -> None:
    if _leaving[0]:
        os._exit(0)
