"""Scores of a model on a whole data set, image by image, at the annotations' own size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import getitem

import numpy as np
import torch

from ...data import Cityscapes, Normalisation, Sample, SegmentationDataset, map_samples, read_instance_ids
from ...models import SegmentationModel
from ..interrupt import ignore_interrupts
from .cityscapes import CityscapesScores, InstanceCounts, cityscapes_scores
from .confusion import ConfusionMatrix, Scores
from .views import Views, label_image


@dataclass(frozen=True)
class Prediction:
    """One sample with the model's labels for it."""

    index: int
    sample: Sample
    labels: np.ndarray
    """[H, W] uint8 classes, in the size of the image."""


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image alone."""

    index: int
    name: str
    scores: Scores | None
    """None where no pixel of it has a class."""


@dataclass(frozen=True)
class DataSetScores:
    """Scores of a data set."""

    scores: Scores
    images: tuple[ImageScores, ...]
    """Scores of each image, in the order of the data set."""
    cityscapes: CityscapesScores | None
    """Scores that only Cityscapes has; None for other data sets."""


def predictions(
    model: SegmentationModel, samples: SegmentationDataset, normalisation: Normalisation, views: Views, workers: int = 0
) -> Iterator[Prediction]:
    """Labels for all `samples` in their order, which `workers` processes read (0: this process).

    Raises:
        OSError, ValueError: reading a sample raised it.
    """
    for index, sample in enumerate(map_samples(getitem, samples, workers, ignore_interrupts)):
        yield Prediction(index, sample, label_image(model, sample.image, normalisation, views).cpu().numpy())


def evaluate_data_set(
    model: SegmentationModel,
    samples: SegmentationDataset,
    normalisation: Normalisation,
    views: Views,
    workers: int = 0,
    instances: bool = True,
    on_image: Callable[[Prediction, ImageScores], None] = lambda prediction, scores: None,
) -> DataSetScores:
    """Scores of `model` on `samples`, with each pixel of their annotations counted once.

    Args:
        instances: for Cityscapes, compute iIoU too; every sample then needs its *_instanceIds.png.
        on_image: called with every prediction and its own scores, in the order of the samples.

    Raises:
        OSError, ValueError: reading a sample raised it; ValueError if samples have no labels, or no pixel has a class.
    """
    if not samples.labelled:
        raise ValueError("this split has no labels to evaluate against")
    matrix = ConfusionMatrix(len(samples.label_set))
    things = InstanceCounts() if instances and isinstance(samples, Cityscapes) else None
    images = []
    for prediction in predictions(model, samples, normalisation, views, workers):
        if things is not None and isinstance(samples, Cityscapes):
            _count_things(things, prediction, samples)
        scores = _image_scores(prediction, matrix)
        images.append(ImageScores(prediction.index, prediction.sample.name, scores))
        on_image(prediction, images[-1])
    scores = matrix.scores()
    extra = cityscapes_scores(scores.confusion, things) if isinstance(samples, Cityscapes) else None
    return DataSetScores(scores, tuple(images), extra)


def _image_scores(prediction: Prediction, total: ConfusionMatrix) -> Scores | None:
    """Scores of one image, which is also added to `total`."""
    matrix = ConfusionMatrix(total.num_classes)
    matrix.add(torch.from_numpy(prediction.labels), torch.from_numpy(np.ascontiguousarray(prediction.sample.labels)))
    total.counts += matrix.counts
    return None if matrix.empty else matrix.scores()


def _count_things(things: InstanceCounts, prediction: Prediction, samples: Cityscapes) -> None:
    path = samples.instances(prediction.index)
    ids = read_instance_ids(path)
    try:
        things.add(prediction.labels, ids)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
