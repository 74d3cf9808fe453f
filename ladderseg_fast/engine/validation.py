"""Validation split during a training: scores, and overlays at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from ..data import SegmentationDataset
from ..models import SegmentationModel
from .config import Config, decided
from .distributed import World
from .evaluation import Scores, evaluate
from .evaluation.comparison import truth_and_prediction
from .loaders import validation_batches, validation_loader
from .overlay import write_png
from .predict import predict_image
from .progress import Progress


class Validation:
    """Evaluates models on `validation_set` as `config` says; the progress goes to `stream`.

    The processes of `world` share the batches; the scores are those of all images, in each of them.
    """

    def __init__(
        self, config: Config, validation_set: SegmentationDataset, device: torch.device, stream: TextIO, world: World
    ) -> None:
        self._config = config
        self._samples = validation_set
        self._device = device
        self._stream = stream
        self._world = world

    def scores(self, model: SegmentationModel, step: int, on_batch: Callable[[], None]) -> Scores:
        """Scores of `model` after `step` steps; calls `on_batch` after every batch, equally often in all processes."""
        loader = validation_loader(self._config, self._samples, self._world)
        rounds = -(-len(validation_batches(self._config, len(self._samples), self._world)) // self._world.size)
        with Progress(self._stream, "evaluate", rounds, plain_lines=0) as progress:

            def on_progress(done: int) -> None:
                progress.update(done, "")
                on_batch()

            def on_counts(counts: Tensor) -> None:
                for _ in range(len(loader), rounds):
                    on_batch()
                self._world.sum(counts)

            scores = evaluate(model, loader, self._device, on_progress, on_counts)
            progress.note(f"step {step}: mIoU {scores.miou:.1%}, pixel accuracy {scores.pixel_accuracy:.1%}")
        return scores

    def draw_overlays(
        self, model: SegmentationModel, directory: Path, will_write: Callable[[Path], None]
    ) -> list[Path]:
        """Writes truth and prediction over images spread evenly over the split, and returns the paths.

        Args:
            will_write: called with each path before its file is written.
        """
        data = self._config.data
        count = min(self._config.output.overlays, len(self._samples))
        paths = []
        for i in range(count):
            sample = self._samples[i * len(self._samples) // count]
            labels = predict_image(model, sample.image, decided(data.normalisation), decided(data.size))
            paths.append(directory / f"{sample.name}.png")
            picture = truth_and_prediction(sample.image, sample.labels, labels, self._samples.label_set, sample.name)
            will_write(paths[-1])
            write_png(paths[-1], picture)
        return paths
