"""Data sets whose samples are pairs of files: an image, and its label image."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .image_files import (
    check_annotation_header,
    check_image_header,
    read_annotation,
    read_image,
    read_palette,
)
from .image_form import ImageForm
from .image_header import read_header
from .label_set import IGNORE_INDEX
from .label_values import LabelValues
from .sample import Sample, SegmentationDataset


class FilePair(NamedTuple):
    """Files of one sample."""

    name: str
    image: Path
    labels: Path | None
    """Label image; None if the split has no annotation."""
    values: LabelValues
    """Meanings of the values in the label image."""


class FilePairs(SegmentationDataset):
    """Reads the samples of `pairs`; a derived class sets `label_set`.

    The files need not exist or be whole: `check_pair` and access find out. Images are RGB of 8 bits unless `expect`
    says otherwise.

    Raises:
        ValueError: there are no pairs; on access, image and labels differ in size, a file is of the wrong form, or a
            label is not of the data set.
        OSError: on access, a file is missing or cannot be read.
        MissingPackageError: on access, an image needs tifffile and imagecodecs, and these are not installed.
    """

    classes_advice: str | None = None
    """Advice for a class without pixels that an ignored value may stand for."""

    def __init__(self, pairs: Sequence[FilePair]) -> None:
        if not pairs:
            raise ValueError("a data set of files needs at least one pair")
        self.pairs = pairs
        self.labelled = all(pair.labels is not None for pair in pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image = self.image(index)
        size = image.shape[:2]
        if self.pairs[index].labels is None:
            return Sample(self.name(index), image, np.full(size, IGNORE_INDEX, np.uint8))
        labels = self.labels(index)
        self.check_sizes(index, size, labels.shape)
        return Sample(self.name(index), image, labels)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def files(self, index: int) -> tuple[Path, ...]:
        pair = self.pairs[index]
        return (pair.image,) if pair.labels is None else (pair.image, pair.labels)

    def expect(self, form: ImageForm) -> None:
        """Makes `form` that of all images; see SegmentationDataset. Any is possible until files are read."""
        self.form = form

    def image(self, index: int) -> np.ndarray:
        """Reads the image: [H, W, bands] of `form`. Raises as access does."""
        return read_image(self.pairs[index].image, self.form)

    def annotation(self, index: int) -> np.ndarray:
        """Reads the label image as it is stored: uint8 [H, W] values, or [H, W, 3] colours if it is RGB.

        Raises as access does; ValueError if there is none.
        """
        return read_annotation(self._label_file(index), coloured=self.pairs[index].values.colours is not None)

    def classes(self, index: int, annotation: np.ndarray) -> np.ndarray:
        """Turns `annotation`, that of the sample, into classes: [H, W] uint8. Raises as access does."""
        values, file = self.pairs[index].values, self._label_file(index)
        if values.colours is not None and annotation.ndim == 2:
            palette = read_palette(file)
            if palette is not None:
                values.check_palette(annotation, palette, file)
        return values.to_classes(annotation, file)

    def _label_file(self, index: int) -> Path:
        pair = self.pairs[index]
        if pair.labels is None:
            raise ValueError(f"{pair.image}: this split has no labels")
        return pair.labels

    def labels(self, index: int) -> np.ndarray:
        """Reads the classes, [H, W] uint8, of any size. Raises as access does; ValueError if there are none."""
        return self.classes(index, self.annotation(index))

    def check_sizes(self, index: int, image: tuple[int, int], labels: tuple[int, int]) -> None:
        """Raises ValueError, naming the sample's files, unless `image` and `labels`, both (H, W), are the same."""
        if image == labels:
            return
        pair = self.pairs[index]
        message = (
            f"{pair.labels}: annotation is {labels[0]}x{labels[1]} "
            f"but its image {pair.image} is {image[0]}x{image[1]} (HxW)"
        )
        header = read_header(pair.image)
        if header.stored_size != header.size and header.stored_size == labels:
            # The usual cause: an annotation tool that shows images as they are stored.
            message += f" once it is turned upright by its EXIF orientation, {header.orientation}"
        raise ValueError(message)

    def check_pair(self, index: int) -> None:
        """Raises what access would raise, as far as the headers of the files show it; decodes nothing."""
        pair = self.pairs[index]
        image = read_header(pair.image)
        check_image_header(pair.image, image, self.form)
        if pair.labels is None:
            return
        labels = read_header(pair.labels)
        check_annotation_header(pair.labels, labels, coloured=pair.values.colours is not None)
        if image.size != labels.size:
            # A PNG may be turned by EXIF data behind its pixels: reading it has the last word.
            self.check_sizes(index, self.image(index).shape[:2], self.labels(index).shape)
