"""Sample of a data set, and the base of all data sets."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from .label_set import LabelSet


class Sample(NamedTuple):
    """One image with its annotation."""

    name: str
    """Name within the data set; fit for a file name."""
    image: np.ndarray
    """Array [H, W, 3] uint8, RGB."""
    labels: np.ndarray
    """Array [H, W] uint8 of classes, with IGNORE_INDEX where there is no annotation."""


class SegmentationDataset(Dataset[Sample], ABC):
    """Sequence of samples that share one label set."""

    label_set: LabelSet
    labelled = True
    """Whether the split has annotations; else all its labels are IGNORE_INDEX."""
    whole = False
    """Whether the data set has no splits, so that this one was chosen from all images, or is all of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns the name of a sample without reading or drawing it."""

    def files(self, index: int) -> tuple[Path, ...]:
        """Returns the files of a sample, its image first; none if it is drawn."""
        return ()
