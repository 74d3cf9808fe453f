"""Work in threads beside the main one, on a bounded number of items at a time, with results in the items' order."""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: More than these wait for each other, or for the disk.
_MOST_THREADS = 4


def suitable_threads() -> int:
    """Number of threads that should read or write images: the cores of this process, at most 4."""
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int, threads: int | None = None
) -> Generator[Result, None, None]:
    """Results of `function` for `items`, in their order, from `threads` (default: suitable_threads()).

    The threads also step through `items`, one of them at a time. Of the items taken, at most `ahead` have a result that
    was not asked for yet, or are being worked on; so memory does not grow with the number of items. An error of
    `function`, or of `items`, is raised in its item's turn. Closing the iterator ends the threads.
    """
    work = _Work(function, items, max(1, ahead), threads or suitable_threads())
    try:
        while (future := work.results.get()) is not None:
            result = future.result()
            work.room.release()
            yield result
    finally:
        work.end()


class _Work(Generic[Item, Result]):
    """Threads of one map_ahead. `results` gets a future for each item, in their order, and None after the last one."""

    def __init__(self, function: Callable[[Item], Result], items: Iterable[Item], ahead: int, threads: int) -> None:
        self.results: queue.SimpleQueue[Future[Result] | None] = queue.SimpleQueue()
        self.room = threading.Semaphore(ahead)
        self._function, self._items = function, iter(items)
        self._taking, self._ended = threading.Lock(), False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Ends the threads, after the items that they work on."""
        self._ended = True
        for _ in self._threads:
            self.room.release()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            self.room.acquire()
            future: Future[Result] = Future()
            with self._taking:  # the order of the results is that in which items are taken
                if self._ended:
                    return
                try:
                    item = next(self._items)
                except StopIteration:
                    self._finish()
                    return
                except BaseException as error:
                    future.set_exception(error)
                    self.results.put(future)
                    self._finish()
                    return
                self.results.put(future)
            try:
                future.set_result(self._function(item))
            except BaseException as error:
                future.set_exception(error)

    def _finish(self) -> None:
        """Tells the reader and the other threads that there are no more items."""
        self._ended = True
        self.results.put(None)
        for _ in self._threads:
            self.room.release()


def map_behind(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Generator[Result, None, None]:
    """Results of `function` for `items`, in their order, from `threads` (default: suitable_threads()).

    This thread steps through `items`, and waits for the oldest result while one more than there are threads are to
    come. An error of `function` is raised in its item's turn. Closing the iterator ends the threads after what they
    work on.
    """
    threads = threads or suitable_threads()
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            del item  # else the last one's memory would stay until there is another
            while waiting and (len(waiting) > threads + 1 or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
