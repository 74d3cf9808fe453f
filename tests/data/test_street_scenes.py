"""The procedural street scenes: repeatable, annotated right, and not solved by colour alone."""

import numpy as np
import pytest

from ladderseg_fast.data import IGNORE_INDEX, STREET_LABELS, StreetScenes

SIZE = (96, 160)


@pytest.fixture(scope="module")
def samples():
    scenes = StreetScenes(24, SIZE)
    return [scenes[i] for i in range(len(scenes))]


def test_scene_depends_on_seed_and_index_only(samples):
    again = StreetScenes(100, SIZE)[7]
    assert np.array_equal(again.image, samples[7].image)
    assert np.array_equal(again.labels, samples[7].labels)
    assert not np.array_equal(again.labels, samples[8].labels)
    assert not np.array_equal(again.labels, StreetScenes(100, SIZE, seed=1)[7].labels)


def test_shapes_and_types(samples):
    for sample in samples:
        assert (sample.image.shape, sample.image.dtype) == ((*SIZE, 3), np.uint8)
        assert (sample.labels.shape, sample.labels.dtype) == (SIZE, np.uint8)


def test_every_class_and_ignored_pixels_occur(samples):
    found = np.unique(np.concatenate([sample.labels.ravel() for sample in samples]))
    assert found.tolist() == [*range(len(STREET_LABELS)), IGNORE_INDEX]


def test_same_street_at_another_size():
    small, large = (StreetScenes(1, size)[0].labels for size in ((96, 192), (192, 384)))
    assert (large[1::2, 1::2] == small).mean() > 0.9


def test_street_is_where_it_belongs(samples):
    labels = np.stack([sample.labels for sample in samples])
    sky, road = STREET_LABELS.names.index("sky"), STREET_LABELS.names.index("road")
    assert (labels[:, SIZE[0] * 6 // 10 :] != sky).all()
    assert (labels[:, : SIZE[0] // 4] != road).all()
    assert (labels[:, SIZE[0] * 8 // 10] == road).mean() > 0.4


def test_colour_alone_does_not_tell_the_class(samples):
    """The best classifier by colour (4 bits a channel), fitted to these very pixels, stays far from perfect."""
    image = np.concatenate([sample.image.reshape(-1, 3) for sample in samples]) >> 4
    labels = np.concatenate([sample.labels.ravel() for sample in samples])
    image, labels = image[labels != IGNORE_INDEX], labels[labels != IGNORE_INDEX]
    colours = (image[:, 0].astype(np.int64) << 8) | (image[:, 1] << 4) | image[:, 2]
    counts = np.zeros((4096, len(STREET_LABELS)), np.int64)
    np.add.at(counts, (colours, labels), 1)
    assert counts.max(axis=1).sum() / len(labels) < 0.75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0, "size": SIZE}, "count must be at least 1"),
        ({"count": 1, "size": (8, 64)}, "size must be at least 16x16, got 8x64"),
        ({"count": 1, "size": SIZE, "seed": -1}, "seed must not be negative"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        StreetScenes(**arguments)


@pytest.mark.parametrize("index", [-1, 3])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match="index must be 0 to 2"):
        StreetScenes(3, SIZE)[index]
