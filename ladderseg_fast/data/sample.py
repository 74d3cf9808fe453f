"""What every data set of this package yields."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from .label_set import LabelSet


class Sample(NamedTuple):
    """One image with its annotation."""

    name: str
    """Names the sample within its data set; fit for a file name."""
    image: np.ndarray
    """[H, W, 3] uint8, RGB."""
    labels: np.ndarray
    """[H, W] uint8: class indices, and IGNORE_INDEX where there is no annotation."""


class SegmentationDataset(Dataset[Sample], ABC):
    """A sequence of samples that share one label set."""

    label_set: LabelSet
    labelled = True
    """False where the split comes without annotation, so that all its labels are IGNORE_INDEX."""
    whole = False
    """True where the data set has no splits, so that the split was chosen from all images, or is all of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """The sample's name, without reading or drawing the sample."""

    def files(self, index: int) -> tuple[Path, ...]:
        """The files that the sample comes from, its image first; none where it is drawn."""
        return ()
