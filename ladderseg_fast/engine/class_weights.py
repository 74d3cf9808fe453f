"""Class weights for the loss, computed from the number of pixels of each class."""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from ..data import IGNORE_INDEX, SegmentationDataset, map_samples
from .interrupt import ignore_interrupts


def median_frequency_weights(
    samples: SegmentationDataset, workers: int, on_sample: Callable[[int], None]
) -> tuple[float, ...]:
    """One weight per class: the median of all classes' frequencies over the class's own (Eigen, Fergus, ICCV 2015).

    The frequency of a class is the number of its pixels over the number of labelled pixels in all samples in which it
    occurs. A class that occurs nowhere has weight 1, which no pixel will ask for. `workers` processes read all samples
    once; `on_sample` is called with the number of samples done so far.

    Raises:
        ValueError: no sample has a labelled pixel.
    """
    pixels = torch.zeros(len(samples.label_set), dtype=torch.int64)
    surroundings = torch.zeros_like(pixels)
    for done, counts in enumerate(map_samples(_pixel_counts, samples, workers, ignore_interrupts), start=1):
        pixels += counts
        surroundings += counts.sum() * (counts > 0)
        on_sample(done)
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
