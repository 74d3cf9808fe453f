"""The last rows of an image that is read from top to bottom."""

from collections.abc import Iterator

import numpy as np


class RowBand:
    """Rows of a source that gives them in order, from the first that may be asked for again.

    Args:
        source: arrays [n, W, C] of any n, which follow each other from row 0 on.

    Attributes:
        top: the first row that is kept.
    """

    def __init__(self, source: Iterator[np.ndarray]) -> None:
        self._source = source
        self._buffer: np.ndarray | None = None
        #: Rows in the buffer, and what the source gave beyond them.
        self._count = 0
        self._more: np.ndarray | None = None
        self.top = 0

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Rows from `top`, at least `self.top`, to before `bottom`: [bottom - top, W, C]. Forgets those above.

        The array changes with the next call that has another `top`.
        """
        assert top >= self.top, "rows that were let go cannot be asked for again"
        self._move_to(top)
        while self._count < bottom - top:
            piece = next(self._source) if self._more is None else self._more
            self._more = None
            if self._count == 0 and self.top + len(piece) <= top:  # above all that is wanted
                self.top += len(piece)
                continue
            piece = piece[top - self.top :] if self._count == 0 else piece
            self.top = top
            take = min(len(piece), bottom - top - self._count)
            self._room(bottom - top, piece)[self._count : self._count + take] = piece[:take]
            self._count += take
            if take < len(piece):
                self._more = piece[take:]
        assert self._buffer is not None
        return self._buffer[: bottom - top]

    def _move_to(self, top: int) -> None:
        """Moves what is kept of the rows from `top` on to the start of the buffer."""
        gone = min(top - self.top, self._count)
        if gone and self._buffer is not None:
            self._count -= gone
            self._buffer[: self._count] = self._buffer[gone : gone + self._count]
            self.top += gone

    def _room(self, rows: int, like: np.ndarray) -> np.ndarray:
        """The buffer, with at least `rows` rows."""
        if self._buffer is None or len(self._buffer) < rows:
            larger = np.empty((rows, *like.shape[1:]), like.dtype)
            if self._buffer is not None:
                larger[: self._count] = self._buffer[: self._count]
            self._buffer = larger
        return self._buffer
