"""Scores of a model on a whole data set, image by image, at the annotations' own size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import getitem

import numpy as np
import torch

from ...data import Cityscapes, Normalisation, Sample, SegmentationDataset, map_samples, read_instance_ids
from ...models import SegmentationModel
from ..distributed import World
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


#: Images by which one process may be ahead of the others: at the end they would not wait for each other for long.
_AHEAD = 16


@dataclass(frozen=True)
class DataSetScores:
    """Scores of a data set."""

    scores: Scores
    images: tuple[ImageScores, ...]
    """Scores of each image, in the order of the data set."""
    cityscapes: CityscapesScores | None
    """Scores that only Cityscapes has; None for other data sets."""


def predictions(
    model: SegmentationModel,
    samples: SegmentationDataset,
    normalisation: Normalisation,
    views: Views,
    workers: int = 0,
    world: World | None = None,
) -> Iterator[Prediction]:
    """Labels for all `samples` in their order, which `workers` processes read (0: this process).

    The processes of `world` have every `world.size`-th sample each.

    Raises:
        OSError, ValueError: reading a sample raised it.
    """
    world = world or World()
    indices = range(world.rank, len(samples), world.size)
    read = zip(indices, map_samples(getitem, samples, workers, ignore_interrupts, indices), strict=True)
    for done in range(0, len(samples), world.size):
        if done // world.size % _AHEAD == 0:
            world.largest(0)
        for index, sample in islice(read, 1):
            yield Prediction(index, sample, label_image(model, sample.image, normalisation, views).cpu().numpy())


def evaluate_data_set(
    model: SegmentationModel,
    samples: SegmentationDataset,
    normalisation: Normalisation,
    views: Views,
    workers: int = 0,
    instances: bool = True,
    on_image: Callable[[Prediction, ImageScores], None] = lambda prediction, scores: None,
    world: World | None = None,
) -> DataSetScores:
    """Scores of `model` on `samples`, with each pixel of their annotations counted once.

    The processes of `world` share the samples, and all get the scores of all. These have the bits of one process's.

    Args:
        instances: for Cityscapes, compute iIoU too; every sample then needs its *_instanceIds.png.
        on_image: called with every prediction of this process and its own scores, in the order of the samples.

    Raises:
        OSError, ValueError: reading a sample raised it; ValueError if samples have no labels, or no pixel has a class.
    """
    if not samples.labelled:
        raise ValueError("this split has no labels to evaluate against")
    world = world or World()
    num_classes = len(samples.label_set)
    counted = []
    for prediction in predictions(model, samples, normalisation, views, workers, world):
        things = None
        if instances and isinstance(samples, Cityscapes):
            things = _things(prediction, samples)
        image = ImageScores(prediction.index, prediction.sample.name, _image_scores(prediction, num_classes))
        counted.append((image, things))
        on_image(prediction, image)
    # Sums of fractions depend on the order.
    everything = sorted(chain.from_iterable(world.gather(counted)), key=lambda pair: pair[0].index)
    matrix, all_things = ConfusionMatrix(num_classes), InstanceCounts()
    for image, things in everything:
        if image.scores is not None:
            matrix.counts += image.scores.confusion
        if things is not None:
            all_things.add_counts(things)
    scores = matrix.scores()
    extra = None
    if isinstance(samples, Cityscapes):
        extra = cityscapes_scores(scores.confusion, all_things if instances else None)
    return DataSetScores(scores, tuple(image for image, _ in everything), extra)


def _image_scores(prediction: Prediction, num_classes: int) -> Scores | None:
    """Scores of one image; None where no pixel of it has a class."""
    matrix = ConfusionMatrix(num_classes)
    matrix.add(torch.from_numpy(prediction.labels), torch.from_numpy(np.ascontiguousarray(prediction.sample.labels)))
    return None if matrix.empty else matrix.scores()


def _things(prediction: Prediction, samples: Cityscapes) -> InstanceCounts:
    """Counts of the instances of one image."""
    things = InstanceCounts()
    path = samples.instances(prediction.index)
    ids = read_instance_ids(path)
    try:
        things.add(prediction.labels, ids)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return things
