"""Which images the training steps see."""

from collections import Counter

import pytest

from ladderseg_fast.data import TrainingBatches


def draws(**changes):
    arguments = {"count": 7, "batch": 3, "steps": 14, "seed": 5} | changes
    return list(TrainingBatches(**arguments))


def test_every_batch_is_full_and_every_epoch_sees_every_image_once():
    batches = draws()
    assert [len(batch) for batch in batches] == [3] * 14
    indices = [draw.index for batch in batches for draw in batch]
    epochs = [indices[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1, "the order is never shuffled anew"


def test_batch_larger_than_the_data_set():
    assert [len(batch) for batch in draws(batch=10, steps=2)] == [10, 10]


def test_half_of_the_images_are_flipped():
    flips = Counter(draw.flip for batch in draws(count=100, batch=10, steps=100) for draw in batch)
    assert 400 < flips[True] < 600


def test_depends_on_the_seed_only():
    assert draws() == draws()
    assert draws() != draws(seed=6)
    assert draws(steps=20)[:14] == draws()


@pytest.mark.parametrize("name", ["count", "batch", "steps"])
def test_rejects_nothing_to_do(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        draws(**{name: 0})
