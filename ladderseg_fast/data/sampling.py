"""Which images a training step sees, decided in one place and independent of loader workers."""

from collections.abc import Iterator
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One image of a batch: its index, and whether left and right are exchanged."""

    index: int
    flip: bool


class TrainingBatches(Sampler[list[Draw]]):
    """`steps` batches of `batch` draws from `length` images, for DataLoader's `batch_sampler`.

    One shuffled epoch follows the other without a cut between them: every batch is full, and every image
    is seen once before any is seen again. Each image is flipped with probability 1/2.

    Raises:
        ValueError: `length`, `batch` or `steps` is below 1.
    """

    def __init__(self, length: int, batch: int, steps: int, seed: int) -> None:
        for name, value in (("length", length), ("batch", batch), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.length = length
        self.batch = batch
        self.steps = steps
        self.seed = seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = self._draws()
        for _ in range(self.steps):
            yield list(islice(draws, self.batch))

    def _draws(self) -> Iterator[Draw]:
        for epoch in count():
            rng = np.random.default_rng((self.seed, epoch))
            order = rng.permutation(self.length)
            flips = rng.random(self.length) < 0.5
            for index in order:
                yield Draw(int(index), bool(flips[index]))
