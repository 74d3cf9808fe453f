"""Data sets and batches of a training and of its evaluations, from loader processes if there are any."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ..data import Draw, SegmentationDataset, SegmentationTensors, TrainingBatches, check_pairs, find_form
from ..data.ending_loader import EndingLoader
from .config import Config, DataConfig, decided
from .distributed import World
from .interrupt import ignore_interrupts

#: images [N, bands, H, W] float32, labels [N, H, W] uint8, indices [N] of the samples in their data set.
Batch = tuple[Tensor, Tensor, Tensor]
#: What a loader iterates over are batches, but torch's type of one names what its data set holds.
Loader = DataLoader[tuple[Tensor, Tensor, int]]


def open_splits(data: DataConfig) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Training and validation split, after a quick look at all of their files.

    The images of both must have the form that `data` says, or that of the first training image.

    Raises:
        ValueError: `data` has no size, a split comes without labels, or a file is missing, broken or of another form,
            as far as headers show it.
        ValueError, OSError: open_data_set raised it.
        MissingPackageError: the images need a package that is not installed.
    """
    splits = (data.train_split, data.val_split)
    train, val = (data.open(split) for split in splits)
    form = find_form(train, data.bands or (None if data.mean is None else len(data.mean)), data.bits)
    for name, split, samples in (("train_split", data.train_split, train), ("val_split", data.val_split, val)):
        if not samples.labelled:
            raise ValueError(f"data.{name} must be a split with labels, {split!r} has none")
        samples.expect(form)
        check_pairs(samples)
    return train, val


def training_loader(config: Config, training_set: SegmentationDataset, start: int, count: int, world: World) -> Loader:
    """Loader of this process's share of `count` batches, from batch number `start` of the training on: the same
    whatever came before.
    """
    training = config.training
    batches = TrainingBatches(
        len(training_set),
        training.batch,
        start + count,
        training.seed,
        start,
        config.data.augmentation(),
        world.rank,
        world.size,
    )
    normalisation = decided(config.data.normalisation)
    tensors = SegmentationTensors(training_set, config.data.size, normalisation, config.data.crop)
    return _loader(config, tensors, batches)


def validation_loader(config: Config, validation_set: SegmentationDataset, world: World) -> Loader:
    """Loader of all samples in their order, or of every `world.size`-th batch of them, as large as a share of a
    training batch: each sample is in one process's batches.
    """
    tensors = SegmentationTensors(validation_set, config.data.size, decided(config.data.normalisation))
    return _loader(config, tensors, validation_batches(config, len(validation_set), world)[world.rank :: world.size])


def validation_batches(config: Config, samples: int, world: World) -> list[list[int]]:
    """Indices of the samples in each batch of an evaluation, those of all processes."""
    size = config.training.batch // world.size
    return [list(range(start, min(start + size, samples))) for start in range(0, samples, size)]


def _loader(config: Config, tensors: SegmentationTensors, batches: Sampler[list[Draw]] | list[list[int]]) -> Loader:
    return EndingLoader(
        tensors,
        batch_sampler=batches,
        num_workers=decided(config.data.workers),
        worker_init_fn=ignore_interrupts,
        pin_memory=config.training.device.startswith("cuda"),
        # Else an iterator would take its seed from torch's global generator, as often as one is made.
        generator=torch.Generator(),
    )
