"""Labels of an image in overlapping tiles, of which a row at a time is in memory."""

from collections.abc import Callable
from contextlib import closing
from typing import Protocol

import numpy as np
import torch

from ...data import Normalisation
from ...models import SegmentationModel
from ...models.segmentation_model import evaluating
from .grid import TileSize
from .label_rows import LabelRows
from .scores import TiledScores
from .windows import Windows


class LabelSink(Protocol):
    """Taker of labels from top to bottom."""

    @property
    def rows(self) -> int:
        """Label rows that are there already; those from here on are made."""
        ...

    def write(self, labels: np.ndarray) -> None:
        """Takes the next `labels` [n, W] uint8."""
        ...

    def synchronise(self) -> None:
        """Makes what it has taken safe; called after each row of tiles."""
        ...


class LabelArray:
    """Labels in memory.

    Args:
        size: (H, W).

    Attributes:
        labels: [H, W] uint8.
        rows: how many rows of them are there.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.labels = np.zeros(size, np.uint8)
        self.rows = 0

    def write(self, labels: np.ndarray) -> None:
        """Takes the next `labels` [n, W] uint8."""
        self.labels[self.rows : self.rows + len(labels)] = labels
        self.rows += len(labels)

    def synchronise(self) -> None:
        """Does nothing: what is in memory does not outlive the process."""


@torch.no_grad()
def predict_tiled(
    model: SegmentationModel,
    image: Windows,
    labels: LabelSink,
    normalisation: Normalisation,
    tiles: TileSize,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Labels `image` at its own size, tile by tile, into `labels`.

    The logits of overlapping tiles are blended: across the middle half of the overlap the weight of one falls linearly
    to nothing while that of the other rises to one. The blend is upsampled to the image's size, and the best class is
    taken, as in model.predict. BatchNorm uses its running statistics.

    Logits are blended at the network's own resolution, usually a quarter of the image's, which takes a sixteenth of the
    memory. Upsampling is linear, too, so blending after it would differ only in how the weights change within a logit.

    Equal to a prediction of the whole image: if one tile covers it; and, up to rounding, if no logit depends on pixels
    farther than a quarter of the overlap away and the image's sides are multiples of the network's stride. Networks
    whose logits depend on more, as those with a pyramid pooling do on all, differ by what a tile does not show.

    Memory, besides what the network takes for one tile: the logits of a row of tiles, K * tile / 4 * W / 4 numbers, and
    the rows of the image that its reader keeps. The height of the image does not enter.

    Args:
        image: [H, W, C], of the form of `normalisation`; one channel stands for RGB's three.
        labels: takes the labels of rows from `labels.rows` on.
        on_tile: called with the number of tiles done, those of an earlier call included, and of all: before the first
            and after each.

    Raises:
        ValueError: `tiles` do not fit the network, the image is smaller than the network sees, or has another form.
        OSError: the image cannot be read on, or labels cannot be written.
    """
    with evaluating(model):
        scores = TiledScores(model, image, normalisation, tiles, on_tile)
        if labels.rows >= image.size[0]:
            return
        made = LabelRows(image.size, scores.rows, labels.rows)
        with closing(scores(made.needs(labels.rows))) as strips:
            for first, blended in strips:
                for rows in made.add(first, blended):
                    labels.write(rows)
                labels.synchronise()
