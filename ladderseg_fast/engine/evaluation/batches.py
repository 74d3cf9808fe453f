"""Scores of a model on ready-made batches, as a training needs them."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ...models import SegmentationModel
from .confusion import ConfusionMatrix, Scores


def evaluate(
    model: SegmentationModel,
    batches: Iterable[Sequence[Tensor]],
    device: torch.device,
    on_batch: Callable[[int], None] = lambda done: None,
    on_counts: Callable[[Tensor], None] = lambda counts: None,
) -> Scores:
    """Scores of `model`'s labels at the size of the batches' images.

    BatchNorm uses its running statistics.

    Args:
        batches: images [N, bands, H, W] and labels [N, H, W]; further entries of a batch are ignored.
        on_batch: called with the number of batches done so far.
        on_counts: called with the confusion matrix [K, K] in the end; may add the counts of other processes to it.

    Raises:
        ValueError: a label is not a class, or no pixel has one.
    """
    matrix = ConfusionMatrix(model.num_classes)
    for done, (images, labels, *_) in enumerate(batches, start=1):
        found = model.predict(images.to(device))  # on the last device of a model on several
        matrix.add(found, labels.to(found.device))
        on_batch(done)
    on_counts(matrix.counts)
    return matrix.scores()
