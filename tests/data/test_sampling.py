"""Which images the training steps see, and what is left to chance about them."""

from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from torch.utils.data import DataLoader

from ladderseg_fast.data import (
    IMAGENET_NORMALISATION,
    Augmentation,
    ColourChange,
    Draw,
    SegmentationTensors,
    StreetScenes,
    TrainingBatches,
)

EVERYTHING = Augmentation(scale=(0.5, 2.0), brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)


def batches(**changes):
    arguments = {"count": 7, "batch": 3, "steps": 14, "seed": 5} | changes
    return list(TrainingBatches(**arguments))


def draws(**changes):
    return list(chain.from_iterable(batches(**changes)))


def test_every_batch_is_full_and_every_epoch_sees_every_image_once():
    assert [len(batch) for batch in batches()] == [3] * 14
    indices = [draw.index for draw in draws()]
    epochs = [indices[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1, "the order is never shuffled anew"


def test_processes_share_each_batch():
    """Whatever their number is, their shares together are the batch, in its order."""
    whole = batches(batch=6, start=3, augmentation=EVERYTHING)
    for parts in (1, 2, 3):
        shares = [batches(batch=6, start=3, augmentation=EVERYTHING, part=part, parts=parts) for part in range(parts)]
        assert {len(share) for batch in zip(*shares, strict=True) for share in batch} == {6 // parts}
        assert [list(chain.from_iterable(batch)) for batch in zip(*shares, strict=True)] == whole
    for part, parts in ((0, 4), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"batch must be divisible by parts .*, got 6, {parts} and {part}"):
            batches(batch=6, part=part, parts=parts)


def test_batch_larger_than_the_data_set():
    assert [len(batch) for batch in batches(batch=10, steps=2)] == [10, 10]


def test_half_of_the_images_are_flipped():
    flips = Counter(draw.flip for draw in draws(count=100, batch=10, steps=100))
    assert 400 < flips[True] < 600


def test_nothing_else_changes_by_default():
    assert {replace(draw, index=0, flip=False, corner=(0.5, 0.5)) for draw in draws()} == {Draw(0)}
    assert not any(draw.flip for draw in draws(augmentation=Augmentation(flip=False)))


def test_depends_on_the_seed_only():
    assert batches() == batches()
    assert batches() != batches(seed=6)
    assert batches(steps=20)[:14] == batches()


@pytest.mark.parametrize("start", range(15))
def test_starting_later_gives_what_would_have_followed(start):
    assert batches(start=start, augmentation=EVERYTHING) == batches(augmentation=EVERYTHING)[start:]
    assert len(TrainingBatches(7, 3, 14, 5, start)) == 14 - start


def test_chance_stays_in_its_range_and_uses_it():
    some = draws(count=500, batch=100, steps=40, augmentation=EVERYTHING)
    scales = np.log2([draw.scale for draw in some])
    assert -1.0 <= scales.min() < -0.95
    assert 0.95 < scales.max() <= 1.0
    assert abs(scales.mean()) < 0.05, "1/2 is as likely as 2"
    corners = np.array([draw.corner for draw in some])
    assert 0.0 <= corners.min() < 0.01
    assert 0.99 < corners.max() < 1.0
    colours = np.array([draw.colour for draw in some]) - ColourChange()
    reach = np.abs(colours).max(axis=0)
    assert (reach <= [0.4, 0.3, 0.2, 0.1]).all()
    assert (reach > [0.39, 0.29, 0.19, 0.09]).all()
    assert (np.abs(colours.mean(axis=0)) < 0.02).all()


def test_an_option_leaves_the_others_choices():
    plain, scaled = draws(), draws(augmentation=Augmentation(scale=(0.5, 2.0), hue=0.3))
    assert [replace(draw, scale=1.0, colour=ColourChange()) for draw in scaled] == plain


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_decide_nothing(workers):
    """The expected samples are made here, one by one, from the draws alone."""
    tensors = SegmentationTensors(StreetScenes(4, (32, 48)), (32, 48), IMAGENET_NORMALISATION, crop=(24, 40))
    sampler = TrainingBatches(4, 2, 3, seed=1, augmentation=EVERYTHING)
    loaded = list(DataLoader(tensors, batch_sampler=sampler, num_workers=workers))
    assert len(loaded) == 3
    for drawn, (images, labels, indices) in zip(sampler, loaded, strict=True):
        assert indices.tolist() == [draw.index for draw in drawn]
        for k, draw in enumerate(drawn):
            image, label, _ = tensors[draw]
            assert images[k].equal(image)
            assert labels[k].equal(label)


@pytest.mark.parametrize("name", ["count", "batch", "steps"])
def test_rejects_nothing_to_do(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        batches(**{name: 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 15}, "start must be 0 to 14, the number of steps, got 15"),
        ({"start": -1}, "start must be 0 to 14"),
        ({"seed": -1}, "seed must not be negative, got -1"),
    ],
)
def test_rejects(changes, message):
    with pytest.raises(ValueError, match=message):
        batches(**changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (2.0, 0.5)}, "scale must be two positive numbers, the smaller first, got 2.0 and 0.5"),
        ({"scale": (0.0, 1.0)}, "scale must be two positive numbers"),
        ({"scale": (1.0, float("nan"))}, "scale must be two positive numbers"),
        ({"brightness": 1.5}, "brightness must be 0 to 1, got 1.5"),
        ({"hue": 0.6}, "hue must be 0 to 0.5, got 0.6"),
        ({"contrast": float("nan")}, "contrast must be 0 to 1, got nan"),
    ],
)
def test_augmentation_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)
