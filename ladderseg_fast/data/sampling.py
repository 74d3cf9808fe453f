"""Choice of the images of each training step, in one place and independent of loader workers."""

from collections.abc import Iterator
from itertools import count as count_from
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

from .augmentation import Augmentation, Draw


class TrainingBatches(Sampler[list[Draw]]):
    """Batches `start` to `steps` of `batch` draws from `count` images, for DataLoader's `batch_sampler`.

    Shuffled epochs follow each other without a break: every batch is full, and every image is seen once before any is
    seen again. `seed`, the epoch and the image alone decide a draw, so a later `start` changes nothing that follows.

    Of `parts` processes that share each batch, number `part` gets its share: the batches are the same for any number of
    processes, and put together again in their order.

    Raises:
        ValueError: `count`, `batch` or `steps` is below 1, `seed` is negative, `start` is not 0 to `steps`, `batch` is
            not divisible by `parts`, or `part` is not below it.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        steps: int,
        seed: int,
        start: int = 0,
        augmentation: Augmentation = Augmentation(),
        part: int = 0,
        parts: int = 1,
    ) -> None:
        for name, value in (("count", count), ("batch", batch), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if not 0 <= start <= steps:
            raise ValueError(f"start must be 0 to {steps}, the number of steps, got {start}")
        if batch % parts or not 0 <= part < parts:
            raise ValueError(f"batch must be divisible by parts and part below it, got {batch}, {parts} and {part}")
        self.count = count
        self.batch = batch
        self.steps = steps
        self.seed = seed
        self.start = start
        self.augmentation = augmentation
        self.share = slice(part * batch // parts, (part + 1) * batch // parts)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = self._draws()
        for _ in range(len(self)):
            yield list(islice(draws, self.batch))[self.share]

    def _draws(self) -> Iterator[Draw]:
        """Yields all draws from the first one of step `start` on."""
        first_epoch, done = divmod(self.start * self.batch, self.count)
        for epoch in count_from(first_epoch):
            rng = np.random.default_rng((self.seed, epoch))
            order = rng.permutation(self.count)
            draws = self.augmentation.draws(self.count, rng)
            yield from (draws[index] for index in order[done:])
            done = 0
