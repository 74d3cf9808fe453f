"""Windows of Zarr arrays."""

from pathlib import Path

from ...models.weights import MissingPackageError
from .array_windows import ArrayWindows

#: Files that say, in formats 3 and 2, that a directory is an array or a group of them.
_MARKS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Whether `path` is a directory that holds a Zarr array, or a group."""
    return any((path / mark).is_file() for mark in _MARKS)


def zarr_windows(path: Path) -> ArrayWindows:
    """Windows of the Zarr array in the directory `path`: [H, W, C] or [H, W], uint8 or uint16.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a group, or an array of another kind.
        MissingPackageError: (an ImportError) the package zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise MissingPackageError(
            f'{path}: Zarr arrays need the package zarr: pip install "ladderseg_fast[zarr]"'
        ) from error
    try:
        found = zarr.open(str(path), mode="r")
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise OSError(f"{path}: cannot read the Zarr array ({error})") from error
    if not hasattr(found, "dtype"):
        raise ValueError(f"{path}: a Zarr group, where one array is expected: name the array in it, such as {path}/0")
    return ArrayWindows(found, str(path))
