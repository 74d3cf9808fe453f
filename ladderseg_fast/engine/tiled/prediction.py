"""Results for an image in overlapping tiles, of which a row at a time is in memory."""

from collections.abc import Callable
from contextlib import closing
from typing import Protocol

import numpy as np
import torch

from ...data import Normalisation
from ...models import SegmentationModel
from ...models.segmentation_model import evaluating
from .grid import TileSize
from .result_rows import ResultRows
from .scores import TiledScores
from .upsampled_rows import UpsampledRows
from .windows import Windows


class RowSink(Protocol):
    """Taker of results from top to bottom."""

    @property
    def rows(self) -> int:
        """Rows that are there already; those from here on are made."""
        ...

    def write(self, rows: ResultRows) -> None:
        """Takes the next rows."""
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

    def write(self, rows: ResultRows) -> None:
        """Takes the labels of the next rows."""
        self.labels[rows.top : rows.bottom] = rows.labels
        self.rows = rows.bottom

    def synchronise(self) -> None:
        """Does nothing: what is in memory does not outlive the process."""


@torch.no_grad()
def predict_tiled(
    model: SegmentationModel,
    image: Windows,
    results: RowSink,
    normalisation: Normalisation,
    tiles: TileSize,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
    batch: int = 1,
) -> None:
    """Labels `image` at its own size, tile by tile, into `results`.

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
        results: takes rows from `results.rows` on.
        on_tile: called with the number of tiles done, those of an earlier call included, and of all: before the first
            and after each batch.
        batch: greatest number of neighbouring tiles of one size that the network computes at once.

    Raises:
        ValueError: `tiles` do not fit the network, the image is smaller than the network sees, or has another form.
        OSError: the image cannot be read on, or results cannot be written.
    """
    with evaluating(model):
        scores = TiledScores(model, image, normalisation, tiles, on_tile, batch)
        if results.rows >= image.size[0]:
            return
        made = UpsampledRows(image.size, scores.rows, results.rows)
        with closing(scores(made.needs(results.rows))) as strips:
            for first, blended in strips:
                for rows in made.add(first, blended):
                    results.write(rows)
                results.synchronise()
