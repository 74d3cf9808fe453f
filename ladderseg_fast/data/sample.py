"""Sample of a data set, and the base of all data sets."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from .image_form import RGB, ImageForm
from .label_set import LabelSet


class Sample(NamedTuple):
    """One image with its annotation."""

    name: str
    """Name within the data set; fit for a file name."""
    image: np.ndarray
    """Array [H, W, bands] of the data set's form: uint8 if its bands have 8 bits, else uint16."""
    labels: np.ndarray
    """Array [H, W] uint8 of classes, with IGNORE_INDEX where there is no annotation."""


class SegmentationDataset(Dataset[Sample], ABC):
    """Sequence of samples that share one label set."""

    label_set: LabelSet
    labelled = True
    """Whether the split has annotations; else all its labels are IGNORE_INDEX."""
    form: ImageForm = RGB
    """Form of all images."""
    whole = False
    """Whether the data set has no splits, so that this one was chosen from all images, or is all of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns the name of a sample without reading or drawing it."""

    def expect(self, form: ImageForm) -> None:
        """Makes `form` that of all images: one that has another is refused on access.

        Raises:
            ValueError: the data set has images of its own form only, and this is another one.
        """
        if form != self.form:
            raise ValueError(f"the images of this data set are {self.form}, not {form}")

    def files(self, index: int) -> tuple[Path, ...]:
        """Returns the files of a sample, its image first; none if it is drawn."""
        return ()
