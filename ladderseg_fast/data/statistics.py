"""Mean and deviation of each band over all images of a data set."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .file_pairs import FilePairs
from .no_data import no_data_value
from .sample import SegmentationDataset
from .sample_map import map_samples
from .transforms import Normalisation

#: Values whose squares are held at a time.
_AT_ONCE = 1 << 20

#: Pixels that count and pixels of no data, and by band the sums of values and of their squares: whole numbers of any
#: size.
_Sums = tuple[int, int, list[int], list[int]]


class BandStatistics(NamedTuple):
    """Mean and deviation of the bands, and what they are of."""

    normalisation: Normalisation
    pixels: int
    """Pixels that counted."""
    no_data: int
    """Pixels that did not, since their files say that they are without data."""


def band_statistics(
    samples: SegmentationDataset,
    workers: int = 0,
    on_sample: Callable[[int], None] = lambda done: None,
    worker_init_fn: Callable[[int], None] | None = None,
) -> BandStatistics:
    """Computes mean and deviation of each band over all pixels of all images of `samples`, at their own size.

    A pixel of a TIFF that has GDAL's value for no data in all bands does not count. Pixels that the labels ignore do,
    since the network sees them as it sees the others.

    Sums are whole numbers, so neither the number of `workers` (0: this process) nor the order changes a bit of the
    result; mean and deviation (that of all pixels, not of a sample of them) are rounded once, in the end. `on_sample`
    is called with the number of samples done so far, `worker_init_fn` in each process with its number.

    Raises:
        OSError, ValueError: reading an image raised it; ValueError if no pixel has data, or a band has one value in
            all of them.
    """
    form = samples.form
    pixels, no_data, sums, squares = 0, 0, [0] * form.bands, [0] * form.bands
    for done, (count, left_out, image_sums, image_squares) in enumerate(
        map_samples(image_sums_of, samples, workers, worker_init_fn), start=1
    ):
        pixels, no_data = pixels + count, no_data + left_out
        sums = [one + other for one, other in zip(sums, image_sums, strict=True)]
        squares = [one + other for one, other in zip(squares, image_squares, strict=True)]
        on_sample(done)
    if pixels == 0:
        raise ValueError("no pixel of any image has data: each is GDAL's value for no data (GDAL_NODATA) in all bands")
    for band, (total, square) in enumerate(zip(sums, squares, strict=True)):
        if pixels * square == total**2:
            raise ValueError(
                f"band {band} has the value {total // pixels} in every pixel of every image, so nothing can be learnt "
                "from it: save the images without it, or set data.mean and data.std"
            )
    mean = tuple(float(Fraction(total, pixels * form.most)) for total in sums)
    std = tuple(
        math.sqrt(Fraction(pixels * square - total**2, (pixels * form.most) ** 2))
        for total, square in zip(sums, squares, strict=True)
    )
    return BandStatistics(Normalisation(mean, std, form.bits), pixels, no_data)


def image_sums_of(samples: SegmentationDataset, index: int) -> _Sums:
    """Counts the pixels of an image, and adds up each band's values and their squares."""
    nothing: int | None = None
    if isinstance(samples, FilePairs):  # whose labels need not be read for it
        image, nothing = samples.image(index), no_data_value(samples.pairs[index].image)
    else:
        image = samples[index].image
    bands = image.shape[2]
    pixels = image.reshape(-1, bands)
    there = len(pixels)
    if nothing is not None:
        pixels = pixels[(pixels != nothing).any(axis=1)]
    rows = max(1, _AT_ONCE // bands)
    sums, squares = np.zeros(bands, np.uint64), np.zeros(bands, np.uint64)
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows].astype(np.uint64)
        sums += part.sum(axis=0)
        # An image has less than 2^31 pixels of at most 2^16, so that their squares' sum is below 2^63.
        squares += (part * part).sum(axis=0)
    return len(pixels), there - len(pixels), sums.tolist(), squares.tolist()
