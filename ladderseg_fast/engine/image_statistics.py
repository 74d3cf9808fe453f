"""Form and normalisation of a training's images, where the configuration leaves them to the images."""

from dataclasses import replace
from typing import TextIO

from ..data import Normalisation, SegmentationDataset, band_statistics
from .config import Config, decided
from .distributed import World
from .interrupt import ignore_interrupts
from .progress import Progress


def with_form(config: Config, training_set: SegmentationDataset, validation_set: SegmentationDataset) -> Config:
    """Configuration for images of the data sets' form.

    Raises:
        ValueError: it is for others, or the data sets differ in it.
    """
    if training_set.form != validation_set.form:
        raise ValueError(
            f"the training images are {training_set.form}, those of the validation split {validation_set.form}"
        )
    return replace(config, data=config.data.with_form(training_set.form))


def with_statistics(config: Config, training_set: SegmentationDataset, stream: TextIO, world: World) -> Config:
    """Gives `config` mean and deviation of the training images, and says so on `stream`, if it has no normalisation.

    Raises:
        OSError, ValueError: reading an image raised it; ValueError if a band has one value everywhere.
    """
    if config.data.normalisation is not None:
        return config
    found = world.first(lambda: _statistics(config, training_set, stream))
    return replace(config, data=config.data.with_normalisation(found))


def _statistics(config: Config, training_set: SegmentationDataset, stream: TextIO) -> Normalisation:
    count = len(training_set)
    with Progress(stream, "measure bands", count, plain_lines=0) as progress:
        found = band_statistics(
            training_set, decided(config.data.workers), lambda done: progress.update(done, ""), ignore_interrupts
        )
        progress.note(
            f"data.mean and data.std are not set: those of the {training_set.form} of {count} training images are "
            f"{_listed(found.normalisation.mean)} and {_listed(found.normalisation.std)}"
            + (f", without {found.no_data} pixels of no data" if found.no_data else "")
        )
    return found.normalisation


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
