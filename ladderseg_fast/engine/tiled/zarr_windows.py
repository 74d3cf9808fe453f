"""Windows of Zarr arrays."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ...models.weights import MissingPackageError
from ...shortened import shortened
from .array_windows import ArrayWindows
from .windows import check_window

#: Files that say, in formats 3 and 2, that a directory is an array or a group of them.
_MARKS = ("zarr.json", ".zarray", ".zgroup")
#: Numbers in the largest chunk that is decoded: it is in memory as a whole.
_LARGEST = 2**30
#: Characters of a message of zarr that are shown: it may quote all of the metadata.
_LONGEST = 300


class ZarrWindows(ArrayWindows):
    """Windows of a Zarr array; see ArrayWindows. A chunk without a file has the array's fill value, as in any Zarr."""

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Reads a window [bottom - top, right - left, C]; see Windows.read."""
        check_window(self.size, top, bottom, left, right)
        try:
            return super().read(top, bottom, left, right)
        except MemoryError:
            raise
        except Exception as error:  # every codec has errors of its own
            where = f"rows {top} to {bottom}, columns {left} to {right}"
            reason = shortened(str(error), _LONGEST)
            raise OSError(f"{self.name}: cannot read the chunks of {where} ({reason})") from error


def is_zarr(path: Path) -> bool:
    """Whether `path` is a directory that holds a Zarr array, or a group."""
    return any((path / mark).is_file() for mark in _MARKS)


def zarr_windows(path: Path) -> ZarrWindows:
    """Windows of the Zarr array in the directory `path`: [H, W, C] or [H, W], uint8 or uint16.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a group, an array of another kind, or its chunks are too large.
        MissingPackageError: (an ImportError) the package zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise MissingPackageError(
            f'{path}: Zarr arrays need the package zarr: pip install "ladderseg_fast[zarr]"'
        ) from error
    try:
        found: Any = zarr.open(str(path), mode="r")
    except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise OSError(f"{path}: cannot read the Zarr array ({shortened(str(error), _LONGEST)})") from error
    if not hasattr(found, "dtype"):
        raise ValueError(f"{path}: a Zarr group, where one array is expected: name the array in it, such as {path}/0")
    if math.prod(found.chunks) > _LARGEST:
        sides = "x".join(map(str, found.chunks))
        raise ValueError(f"{path}: its chunks of {sides} values are too large to be decoded as a whole")
    return ZarrWindows(found, str(path))
