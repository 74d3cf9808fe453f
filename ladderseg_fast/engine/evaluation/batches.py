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
) -> Scores:
    """Scores of `model`'s labels at the size of the batches' images.

    BatchNorm uses its running statistics.

    Args:
        batches: images [N, 3, H, W] and labels [N, H, W]; further entries of a batch are ignored.
        on_batch: called with the number of batches done so far.

    Raises:
        ValueError: a label is not a class, or no pixel has one.
    """
    matrix = ConfusionMatrix(model.num_classes)
    for done, (images, labels, *_) in enumerate(batches, start=1):
        found = model.predict(images.to(device))  # on the last device of a model on several
        matrix.add(found, labels.to(found.device))
        on_batch(done)
    return matrix.scores()
