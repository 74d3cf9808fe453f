"""Size of the training images, chosen if nobody gave one."""

import statistics

from ..data import SegmentationDataset
from ..data.image_header import read_header

#: Images whose headers are looked at, spread evenly over the data set.
_LOOKED_AT = 200

#: Pixels of a training image at most: as many as 512x1024 has.
_MOST_PIXELS = 512 * 1024

#: The coarsest maps are at 1/64; and no image is smaller than that.
_LEAST = 64


def typical_size(samples: SegmentationDataset) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size (height, width) for the training images, and the medians of the images' own sizes that it is chosen by.

    It has the medians' proportions and at most as many pixels as 512x1024, so that a training fits into the memory of
    most machines. `samples` must come from files.

    Raises:
        OSError: a header cannot be read.
    """
    indices = range(0, len(samples), max(1, len(samples) // _LOOKED_AT))
    sizes = [read_header(samples.files(index)[0]).size for index in indices]
    height, width = (round(statistics.median(sides)) for sides in zip(*sizes, strict=True))
    scale = min(1.0, (_MOST_PIXELS / (height * width)) ** 0.5)
    return (max(_LEAST, int(height * scale)), max(_LEAST, int(width * scale))), (height, width)
