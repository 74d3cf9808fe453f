"""Thorough check of a data set of files: reads every pixel, keeps every problem, counts every class."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .file_pairs import FilePairs
from .image_files import verify_checksums
from .label_set import IGNORE_INDEX
from .sample_map import map_samples


class Examination(NamedTuple):
    """Findings in one sample."""

    problems: tuple[str, ...]
    """Messages, one per broken file, with its name; none if the sample can be used."""
    size: tuple[int, int] | None
    """Height and width of the image, if it could be read."""
    pixels: np.ndarray | None
    """Number of pixels of each class and of IGNORE_INDEX, [256] int64, if the labels could be read."""
    ignored: Counter[str]
    """Number of pixels of each ignored value, or colour, of the label image."""


@dataclass
class Survey:
    """Findings in all samples of a data set."""

    samples: int = 0
    problems: list[str] = field(default_factory=list)
    broken: int = 0
    """Number of samples with a problem."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Number of images of each (height, width)."""
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    """Number of pixels of each class and of IGNORE_INDEX, [256], in all readable labels."""
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    """Number of images in which each of them occurs, [256]."""
    labelled: int = 0
    """Number of label images that could be read."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of pixels of each ignored value, or colour, of the label images."""

    def add(self, found: Examination) -> None:
        """Adds the findings in one sample."""
        self.samples += 1
        self.problems += found.problems
        self.broken += bool(found.problems)
        if found.size is not None:
            self.sizes[found.size] += 1
        if found.pixels is not None:
            self.pixels += found.pixels
            self.images += found.pixels > 0
            self.labelled += 1
        self.ignored += found.ignored


def survey(
    samples: FilePairs,
    workers: int = 0,
    on_sample: Callable[[int], None] = lambda done: None,
    worker_init_fn: Callable[[int], None] | None = None,
) -> Survey:
    """Reads every file of `samples`, in `workers` processes (0: in this one).

    `on_sample` is called with the number of samples done so far, `worker_init_fn` in each process with its number.
    """
    result = Survey()
    for done, found in enumerate(map_samples(examine, samples, workers, worker_init_fn), start=1):
        result.add(found)
        on_sample(done)
    return result


def examine(samples: FilePairs, index: int) -> Examination:
    """Reads both files of one sample; a problem of one does not hide that of the other."""
    problems: list[str] = []
    size, pixels, ignored = None, None, Counter[str]()
    image_file, *label_files = samples.files(index)
    with _noting(problems):
        size = samples.image(index).shape[:2]
        verify_checksums(image_file)
    for label_file in label_files:
        with _noting(problems):
            annotation = samples.annotation(index)
            labels = samples.classes(index, annotation)
            verify_checksums(label_file)
            if size is not None:
                samples.check_sizes(index, size, labels.shape)
            pixels = np.bincount(labels.ravel(), minlength=IGNORE_INDEX + 1)
            ignored = samples.pairs[index].values.ignored(annotation)
    return Examination(tuple(problems), size, pixels, ignored)


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Keeps the message of an error in `problems`, and goes on."""
    try:
        yield
    except (OSError, ValueError) as error:
        problems.append(str(error))
