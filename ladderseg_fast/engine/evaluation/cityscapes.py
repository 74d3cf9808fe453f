"""Scores of the Cityscapes benchmark besides the classes' IoU.

The definitions are those of its public evaluator, `cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling`, for
predictions of the nineteen classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from torch import Tensor

from ...data import CITYSCAPES_CATEGORIES, CITYSCAPES_LABELS, CITYSCAPES_TRAINED

#: Mean number of pixels of a thing in the training images at full size: the evaluator's constants.
_AVERAGE_SIZE = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}

#: Factor in *_instanceIds.png: an instance's pixels are its label's id times this, plus its number in the image. Pixels
#: of labels without instances have the label's id alone.
_PER_LABEL = 1000

_CATEGORY_OF = np.array([label.category_id for label in CITYSCAPES_TRAINED])
_AVERAGE_SIZE_OF = np.array([_AVERAGE_SIZE.get(label.name, 0.0) for label in CITYSCAPES_TRAINED])
_CLASSES = len(CITYSCAPES_TRAINED)

#: Categories with a class.
_COUNTED_CATEGORIES = sorted(set(_CATEGORY_OF.tolist()))
#: Classes, and categories of nothing but labels, whose things are told apart.
_THINGS = [k for k, label in enumerate(CITYSCAPES_TRAINED) if label.has_instances]
_THING_CATEGORIES = [
    category
    for category in _COUNTED_CATEGORIES
    if all(label.has_instances for label in CITYSCAPES_LABELS if label.category_id == category and label.id >= 0)
]

ByName = dict[str, float | None]
"""Scores by name; None where no pixel decides."""


@dataclass(frozen=True)
class CityscapesScores:
    """Scores over all images together. Void does not count and has no score."""

    category_iou: ByName
    """IoU of the seven categories: confusing car with bus is no mistake here."""
    class_iiou: ByName | None = None
    """iIoU of the classes with instances: TP / (TP + FP + FN), where the true pixels of each instance weigh the average
    size of its class over its own size, and false positives one. None if instances were not counted."""
    category_iiou: ByName | None = None
    """iIoU of human and vehicle. None if instances were not counted."""

    @property
    def mean_category_iou(self) -> float | None:
        """Mean over the categories that have a value."""
        return _mean(self.category_iou)

    @property
    def mean_class_iiou(self) -> float | None:
        """Mean over the classes that have a value; None if instances were not counted."""
        return None if self.class_iiou is None else _mean(self.class_iiou)

    @property
    def mean_category_iiou(self) -> float | None:
        """Mean over the categories that have a value; None if instances were not counted."""
        return None if self.category_iiou is None else _mean(self.category_iiou)


class InstanceCounts:
    """Weighted pixels of instances: found as their class, found as their category, and all."""

    def __init__(self) -> None:
        self.all = np.zeros(_CLASSES)
        self.as_class = np.zeros(_CLASSES)
        self.as_category = np.zeros(_CLASSES)

    def add(self, prediction: np.ndarray, instances: np.ndarray) -> None:
        """Counts classes [H, W] predicted for `instances` [H, W], values of *_instanceIds.png.

        Raises:
            ValueError: the shapes differ, a prediction is not a class, or a value belongs to no label with instances.
        """
        if prediction.shape != instances.shape:
            raise ValueError(f"prediction is {prediction.shape} but instances are {instances.shape}")
        if prediction.size and int(prediction.max()) >= _CLASSES:
            raise ValueError(f"prediction must be 0 to {_CLASSES - 1}, got {int(prediction.max())}")
        things = instances > _PER_LABEL
        ids, predicted = instances[things].astype(np.int64), prediction[things]
        class_of_id = _class_of_id(ids)
        true = class_of_id[ids]
        counted = true >= 0
        ids, predicted, true = ids[counted], predicted[counted], true[counted]
        size = np.bincount(ids, minlength=len(class_of_id))
        as_class = np.bincount(ids[predicted == true], minlength=len(class_of_id))
        as_category = np.bincount(ids[_CATEGORY_OF[predicted] == _CATEGORY_OF[true]], minlength=len(class_of_id))
        present = np.flatnonzero(size)
        owner = class_of_id[present]
        weight = _AVERAGE_SIZE_OF[owner] / size[present]
        for total, pixels in ((self.all, size), (self.as_class, as_class), (self.as_category, as_category)):
            # An image's sum first, as where images are counted apart and add_counts brings them together.
            total += np.bincount(owner, weight * pixels[present], minlength=_CLASSES)

    def add_counts(self, other: "InstanceCounts") -> None:
        """Adds what `other` has counted."""
        self.all += other.all
        self.as_class += other.as_class
        self.as_category += other.as_category


def cityscapes_scores(confusion: Tensor, instances: InstanceCounts | None) -> CityscapesScores:
    """Scores from the classes' confusion matrix [19, 19] and, for iIoU, from the instance counts of the same images."""
    counts = confusion.numpy()
    columns = counts.sum(0)

    def iou(category: int) -> float | None:
        members = _CATEGORY_OF == category
        found = counts[np.ix_(members, members)].sum()
        return _ratio(found, counts[members].sum() + columns[members].sum() - found)

    category_iou = {CITYSCAPES_CATEGORIES[category]: iou(category) for category in _COUNTED_CATEGORIES}
    if instances is None:
        return CityscapesScores(category_iou)

    def category_iiou(category: int) -> float | None:
        members = _CATEGORY_OF == category
        false_positives = counts[np.ix_(~members, members)].sum()
        return _ratio(instances.as_category[members].sum(), instances.all[members].sum() + false_positives)

    return CityscapesScores(
        category_iou,
        class_iiou={
            CITYSCAPES_TRAINED[k].name: _ratio(instances.as_class[k], instances.all[k] + columns[k] - counts[k, k])
            for k in _THINGS
        },
        category_iiou={CITYSCAPES_CATEGORIES[category]: category_iiou(category) for category in _THING_CATEGORIES},
    )


def _class_of_id(ids: np.ndarray) -> np.ndarray:
    """Class of every id up to the highest of `ids`; -1 if the label does not count or the id does not occur."""
    found = np.unique(ids // _PER_LABEL)
    class_of_label = np.full(int(found.max(initial=0)) + 1, -1)
    labels = {label.id: label for label in CITYSCAPES_LABELS}
    for value in found.tolist():
        label = labels.get(value)
        if label is None or not label.has_instances:
            raise ValueError(f"instance ids must be of labels with instances, but {value} (times 1000) is none")
        if not label.ignore_in_eval:
            class_of_label[value] = label.train_id
    return np.repeat(class_of_label, _PER_LABEL)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _mean(scores: ByName) -> float | None:
    values: Sequence[float] = [value for value in scores.values() if value is not None]
    return fmean(values) if values else None
