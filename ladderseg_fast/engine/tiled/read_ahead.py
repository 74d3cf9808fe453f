"""Reading of what comes next while something else is computed."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

_Place = TypeVar("_Place")
_Result = TypeVar("_Result")


class ReadAhead(Generic[_Place, _Result]):
    """Results of `read` for `places`, in order; a thread reads the next `ahead` while the last are used.

    The thread ends with the block of this context manager.
    """

    def __init__(self, read: Callable[[_Place], _Result], places: Iterable[_Place], ahead: int = 1) -> None:
        self._read, self._ahead = read, ahead
        self._places = iter(places)
        self._pending: deque[Future[_Result]] = deque()

    def __enter__(self) -> "ReadAhead[_Place, _Result]":
        self._pool = ThreadPoolExecutor(1)
        self._submit(self._ahead)
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next(self) -> _Result:
        """Returns the next result. Raises what reading it raised."""
        assert self._pending, "there are no more places"
        result = self._pending.popleft().result()
        self._submit(1)
        return result

    def _submit(self, count: int) -> None:
        self._pending.extend(self._pool.submit(self._read, place) for place in islice(self._places, count))
