"""Loader whose processes end with its iteration."""

from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

Item = TypeVar("Item", covariant=True)


class EndingLoader(DataLoader[Item]):
    """DataLoader whose processes end with the iteration, however it ends.

    Those of torch's end when the iterator is gone. An error that a loader process raised keeps it, and itself
    (ExceptionWrapper.reraise has it in a variable), until Python happens to look for cycles.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch declares its own iterator
        batches = super().__iter__()
        try:
            yield from batches
        finally:
            # Only the iterator with processes has it.
            end = getattr(batches, "_shutdown_workers", None)
            if end is not None:
                end()
