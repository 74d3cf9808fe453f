"""Samples of a data set as tensors for the network."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augmentation import Draw
from .colour import change_colours
from .sample import SegmentationDataset
from .transforms import Normalisation, crop_or_pad, flip_horizontally, resize_image, resize_labels


class SegmentationTensors(Dataset[tuple[Tensor, Tensor, int]]):
    """Tensors of `samples`: (image [bands, H, W] float32, labels [H, W] uint8, index).

    An index selects an item; so does a Draw, which may also scale, crop, flip and recolour it, in this order.

    Args:
        size: (height, width) that images and labels are resized to, before Draw's scale; None: their own.
        crop: (height, width) cut out of that, at Draw's corner. Where the image is smaller it is padded with its mean
            colour, its labels with IGNORE_INDEX. None: `size`, or the whole image if that is None too.

    Raises:
        ValueError: a side of `size` or `crop` is below 1.
        OSError, ValueError: on access, as the samples do.
    """

    def __init__(
        self,
        samples: SegmentationDataset,
        size: tuple[int, int] | None,
        normalisation: Normalisation,
        crop: tuple[int, int] | None = None,
    ) -> None:
        for name, sides in (("size", size), ("crop", crop)):
            if sides is not None and min(sides) < 1:
                raise ValueError(f"{name} must be at least 1x1, got {sides[0]}x{sides[1]}")
        self.samples = samples
        self.size = size
        self.normalisation = normalisation
        self.crop = crop or size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, Tensor, int]:
        draw = item if isinstance(item, Draw) else Draw(item)
        sample = self.samples[draw.index]
        size = tuple(max(1, round(side * draw.scale)) for side in self.size or sample.labels.shape)
        image, labels = resize_image(sample.image, size), resize_labels(sample.labels, size)
        if self.crop is not None:
            image, labels = crop_or_pad(image, labels, self.crop, draw.corner)
        if draw.flip:
            image, labels = flip_horizontally(image), flip_horizontally(labels)
        image = change_colours(image, draw.colour, self.normalisation.form.most)
        return self.normalisation(image), torch.from_numpy(np.array(labels, order="C")), draw.index
