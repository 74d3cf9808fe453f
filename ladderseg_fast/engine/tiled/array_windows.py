"""Windows of arrays: in memory, of a file that NumPy wrote, or of a Zarr array."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from .windows import OpenFile, check_window


class ArrayWindows(OpenFile):
    """Windows of an array [H, W, C], or [H, W] of one channel, of uint8 or uint16.

    Args:
        array: anything of which slices can be taken: a NumPy array, a memory map, a Zarr array.
        name: its name in messages.

    Raises:
        ValueError: it has another shape or dtype, or no pixels.
    """

    def __init__(self, array: Any, name: str) -> None:
        self.name = name
        if len(array.shape) not in (2, 3) or 0 in array.shape:
            raise ValueError(f"{name}: an array must be [H, W, C] or [H, W], got shape {tuple(array.shape)}")
        self.size = (array.shape[0], array.shape[1])
        self.channels = 1 if len(array.shape) == 2 else array.shape[2]
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        if self.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"{name}: an array must be of uint8 or uint16, got {array.dtype}")
        self._array = array

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Reads a window [bottom - top, right - left, C]; see Windows.read."""
        check_window(self.size, top, bottom, left, right)
        with self._opened() as array:
            window = np.array(array[top:bottom, left:right], dtype=self.dtype)
        return window.reshape(*window.shape[:2], self.channels)

    def _opened(self) -> AbstractContextManager[Any]:
        return nullcontext(self._array)


class MappedWindows(ArrayWindows):
    """Windows of a file that is mapped into memory for each of them, and not longer.

    Else all that was ever read would count as this process's memory.

    Args:
        path: the file, for messages.
        open_map: maps it.

    Raises:
        OSError: it cannot be read, or is truncated.
        ValueError: as ArrayWindows.
    """

    def __init__(self, path: Path, open_map: Callable[[], np.ndarray]) -> None:
        self._path, self._open_map = path, open_map
        super().__init__(self._map(), str(path))
        self._array = None

    def _opened(self) -> AbstractContextManager[Any]:
        return nullcontext(self._map())

    def _map(self) -> np.ndarray:
        try:
            return self._open_map()
        except MemoryError:
            raise
        except Exception as error:  # NumPy's, of a file that is shorter than its header says, or of its header's text
            raise OSError(f"{self._path}: cannot read the array ({error})") from error


def numpy_windows(path: Path) -> ArrayWindows:
    """Windows of the .npy file `path`. Raises OSError and ValueError as MappedWindows."""
    return MappedWindows(path, lambda: np.lib.format.open_memmap(path, mode="r"))
