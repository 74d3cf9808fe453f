"""Class weights for the loss, computed from the number of pixels of each class."""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from ..data import IGNORE_INDEX, SegmentationDataset, map_samples
from .distributed import World
from .interrupt import ignore_interrupts


def median_frequency_weights(
    samples: SegmentationDataset, workers: int, on_sample: Callable[[int], None], world: World | None = None
) -> tuple[float, ...]:
    """One weight per class: the median of all classes' frequencies over the class's own (Eigen, Fergus, ICCV 2015).

    The frequency of a class is the number of its pixels over the number of labelled pixels in all samples in which it
    occurs. A class that occurs nowhere has weight 1, which no pixel will ask for. All samples are read once: the
    processes of `world` have every `world.size`-th each, which `workers` further processes of each read; `on_sample` is
    called with the number of samples that all have done so far. What it raises in one process ends all.

    Raises:
        ValueError: no sample has a labelled pixel.
        RankError: another process of `world` failed.
    """
    world = world or World()
    indices = range(world.rank, len(samples), world.size)
    found = map_samples(_pixel_counts, samples, workers, ignore_interrupts, indices)
    # Of the pixels of each class, and of all pixels beside them.
    pixels, surroundings = sums = torch.zeros(2, len(samples.label_set), dtype=torch.int64)
    # No process is ahead of the others by more than a sample, so none waits for long.
    for done in range(0, len(samples), world.size):
        with world.together():
            counts = next(found, None)
            if counts is not None:
                pixels += counts
                surroundings += counts.sum() * (counts > 0)
            on_sample(min(done + world.size, len(samples)))
    world.sum(sums)
    pairs = zip(pixels.tolist(), surroundings.tolist(), strict=True)
    frequencies = [count / total if total else None for count, total in pairs]
    occurring = [frequency for frequency in frequencies if frequency is not None]
    if not occurring:
        raise ValueError('training.class_weights = "balanced" needs labels, but no training image has a labelled pixel')
    middle = median(occurring)
    return tuple(1.0 if frequency is None else middle / frequency for frequency in frequencies)


def _pixel_counts(samples: SegmentationDataset, index: int) -> Tensor:
    """Counts the pixels of every class in a sample: [K] int64."""
    labels = torch.from_numpy(samples[index].labels.copy())
    return torch.bincount(labels[labels != IGNORE_INDEX].long(), minlength=len(samples.label_set))
