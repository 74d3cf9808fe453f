"""Reading of what comes next while something else is computed."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

_Place = TypeVar("_Place")
_Result = TypeVar("_Result")


class ReadAhead(Generic[_Place, _Result]):
    """Results of `read` for `places`, in order; a thread reads the next while the last is used.

    The thread ends with the block of this context manager.
    """

    def __init__(self, read: Callable[[_Place], _Result], places: Iterable[_Place]) -> None:
        self._read = read
        self._places = iter(places)

    def __enter__(self) -> "ReadAhead[_Place, _Result]":
        self._pool = ThreadPoolExecutor(1)
        self._submit()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next(self) -> _Result:
        """Returns the next result. Raises what reading it raised."""
        assert self._pending is not None, "there are no more places"
        result = self._pending.result()
        self._submit()
        return result

    def _submit(self) -> None:
        self._pending: Future[_Result] | None = None
        for place in self._places:
            self._pending = self._pool.submit(self._read, place)
            return
