"""Quality of labels: confusion matrix, intersection over union, pixel accuracy."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...data import IGNORE_INDEX


@dataclass(frozen=True)
class Scores:
    """Scores over all counted pixels of all images together."""

    miou: float
    """Mean of the classes' IoU, over the classes that occur in the ground truth or in a prediction."""
    pixel_accuracy: float
    """Share of the counted pixels that are predicted right."""
    iou: tuple[float | None, ...]
    """Per class: pixels in both ground truth and prediction, over pixels in either; None where there are none."""
    confusion: Tensor = field(compare=False, repr=False)
    """[K, K] int64: counted pixels by true class (row) and predicted class (column)."""


class ConfusionMatrix:
    """Counts of (true class, predicted class) over pixels whose label is not IGNORE_INDEX.

    A prediction on an ignored pixel counts nowhere.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        """[K, K]: rows are true classes, columns predicted ones."""

    def add(self, prediction: Tensor, labels: Tensor) -> None:
        """Counts `prediction` against `labels`, both integer and of any shape, but the same.

        Raises:
            ValueError: the shapes differ, or a counted value is not a class.
        """
        if prediction.shape != labels.shape:
            raise ValueError(f"prediction is {tuple(prediction.shape)} but labels are {tuple(labels.shape)}")
        counted = labels != IGNORE_INDEX
        true, predicted = labels[counted].long(), prediction[counted].long()
        for name, values in (("labels", true), ("prediction", predicted)):
            if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < self.num_classes:
                raise ValueError(
                    f"{name} must be 0 to {self.num_classes - 1}, got {int(values.min())} to {int(values.max())}"
                )
        pairs = torch.bincount(true * self.num_classes + predicted, minlength=self.num_classes**2)
        self.counts += pairs.view(self.num_classes, self.num_classes).cpu()

    @property
    def empty(self) -> bool:
        """Whether no pixel was counted."""
        return not bool(self.counts.any())

    def scores(self) -> Scores:
        """Scores of the counted pixels. Raises ValueError if no pixel was counted."""
        if self.empty:
            raise ValueError("no pixel of the evaluated images has a class")
        right = self.counts.diagonal().tolist()
        union = (self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal()).tolist()
        iou = tuple(r / u if u else None for r, u in zip(right, union, strict=True))
        occurring = [value for value in iou if value is not None]
        return Scores(
            miou=sum(occurring) / len(occurring),
            pixel_accuracy=sum(right) / int(self.counts.sum()),
            iou=iou,
            confusion=self.counts.clone(),
        )
