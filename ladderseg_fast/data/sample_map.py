"""Something computed of every sample of a data set, in loader processes if there are any."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import Dataset

from .ending_loader import EndingLoader
from .sample import SegmentationDataset

Samples = TypeVar("Samples", bound=SegmentationDataset)
Result = TypeVar("Result")


def map_samples(
    function: Callable[[Samples, int], Result],
    samples: Samples,
    workers: int,
    worker_init_fn: Callable[[int], None] | None = None,
    indices: Sequence[int] | None = None,
) -> Iterator[Result]:
    """Yields `function(samples, index)` for every index in order, computed in `workers` processes (0: in this one).

    With `indices`, it does so for these, in their order. Each process first calls `worker_init_fn` with its number.
    Raises what `function` raises.
    """
    yield from EndingLoader(
        _Mapped(function, samples, range(len(samples)) if indices is None else indices),
        batch_size=None,
        num_workers=workers,
        # The default would make tensors of arrays.
        collate_fn=_unchanged,
        worker_init_fn=worker_init_fn,
        # The default would draw from torch's global generator.
        generator=torch.Generator(),
    )


class _Mapped(Dataset[Result], Generic[Samples, Result]):
    def __init__(self, function: Callable[[Samples, int], Result], samples: Samples, indices: Sequence[int]) -> None:
        self._function, self._samples, self._indices = function, samples, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> Result:
        return self._function(self._samples, self._indices[place])


def _unchanged(result: Result) -> Result:
    return result
