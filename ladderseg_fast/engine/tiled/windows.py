"""Images that are read window by window."""

from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np

_Self = TypeVar("_Self", bound="OpenFile")


class Windows(Protocol):
    """An image of which parts are read from where it is kept.

    Attributes:
        name: the file's name in messages.
        size: (H, W).
        channels: C.
        dtype: uint8 or uint16.
    """

    name: str
    size: tuple[int, int]
    channels: int
    dtype: np.dtype

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Reads the rows from `top` to before `bottom`, and of these the columns from `left` to before `right`.

        Windows are meant to be read from top to bottom: some files must be read again from their start to go up.

        Returns:
            [bottom - top, right - left, C] of `dtype`.

        Raises:
            OSError: the file is damaged, truncated, or gone.
        """
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class OpenFile:
    """Base of readers that hold a file open: as context managers they close it."""

    def close(self) -> None:
        """Closes the file."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_window(size: tuple[int, int], top: int, bottom: int, left: int, right: int) -> None:
    """Raises ValueError unless the window has pixels, and all of them are in an image of `size` (H, W)."""
    if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
        raise ValueError(
            f"a window must be in the image, {size[0]}x{size[1]}, got rows {top} to {bottom}, columns {left} to {right}"
        )
