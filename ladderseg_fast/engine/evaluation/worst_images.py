"""Images on which a model does worst."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data import SegmentationDataset
from ..overlay import write_png
from .comparison import comparison
from .confusion import Scores
from .data_set import ImageScores, Prediction


@dataclass(frozen=True)
class _Bad:
    index: int
    scores: Scores
    prediction: np.ndarray


class WorstImages:
    """Keeps the predictions of the `count` images with the lowest mIoU; of equal ones, the earlier.

    An image's mIoU is the mean over the classes that occur in its labels or in its prediction. Only labels are kept:
    one byte per pixel.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._worst: list[_Bad] = []

    def add(self, prediction: Prediction, image: ImageScores) -> None:
        """Considers one image; images without a labelled pixel have no mIoU and are passed over."""
        if image.scores is None:
            return
        self._keep([*self._worst, _Bad(image.index, image.scores, prediction.labels)])

    def add_all(self, others: Iterable["WorstImages"]) -> None:
        """Considers the images that `others` kept."""
        self._keep([bad for other in (self, *others) for bad in other._worst])

    def _keep(self, candidates: list[_Bad]) -> None:
        self._worst = sorted(candidates, key=lambda bad: (bad.scores.miou, bad.index))[: self.count]

    def write(self, samples: SegmentationDataset, directory: Path) -> list[Path]:
        """Writes RANK_NAME.png for each image, the worst first, and returns the paths.

        Raises:
            OSError: a file cannot be written, or the sample cannot be read again.
        """
        paths = []
        for rank, bad in enumerate(self._worst, start=1):
            sample, scores = samples[bad.index], bad.scores
            title = f"{rank}. {sample.name}: mIoU {scores.miou:.1%}, pixel accuracy {scores.pixel_accuracy:.1%}"
            paths.append(directory / f"{rank:0{len(str(self.count))}}_{sample.name}.png")
            picture = comparison(sample.image, sample.labels, bad.prediction, samples.label_set, title)
            write_png(paths[-1], picture)
        return paths
