"""A data set's samples as the network's tensors."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .sample import SegmentationDataset
from .sampling import Draw
from .transforms import Normalisation, flip_horizontally, resize_image, resize_labels


class SegmentationTensors(Dataset[tuple[Tensor, Tensor]]):
    """Samples of `samples` at `size` (height, width): image [3, H, W] float32, labels [H, W] uint8.

    An item is asked for by its index, or by a Draw that may also flip it.
    """

    def __init__(self, samples: SegmentationDataset, size: tuple[int, int], normalisation: Normalisation) -> None:
        self.samples = samples
        self.size = size
        self.normalisation = normalisation

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, Tensor]:
        draw = item if isinstance(item, Draw) else Draw(item, flip=False)
        sample = self.samples[draw.index]
        image = resize_image(sample.image, self.size)
        labels = resize_labels(sample.labels, self.size)
        if draw.flip:
            image, labels = flip_horizontally(image), flip_horizontally(labels)
        return self.normalisation(image), torch.from_numpy(np.array(labels, order="C"))
