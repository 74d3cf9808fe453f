"""Prediction on images of any size."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from ladderseg_fast.data import IMAGENET_NORMALISATION, image_from_array, resize_image
from ladderseg_fast.engine import (
    LabelledImage,
    SystemRefusal,
    UnusableImage,
    build_model,
    label_images,
    predict_image,
    prediction_size,
)
from ladderseg_fast.engine.predict import _label
from ladderseg_fast.engine.threads import suitable_threads
from ladderseg_fast.models.segmentation_model import evaluating
from ladderseg_fast.models.weights import MissingPackageError


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((360, 480), (360, 480)),
        ((720, 960), (360, 480)),
        ((180, 240), (360, 480)),
        ((64, 64), (416, 416)),
        ((1024, 2048), (294, 588)),
        ((64, 2000), (74, 2324)),
        ((3000, 30), (6400, 64)),
    ],
)
def test_size_keeps_proportions_and_pixels(image, expected):
    assert prediction_size(image, (360, 480), least=64) == expected


@pytest.mark.parametrize("size", [(64, 96), (65, 131), (200, 70)])
def test_labels_have_the_images_size(checkpoint, size):
    model = build_model(checkpoint, torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = predict_image(model, image, IMAGENET_NORMALISATION, checkpoint.size)
    assert labels.shape == size
    assert labels.dtype == np.uint8
    assert labels.max() < 3


def test_at_the_trained_size_it_is_the_models_prediction(checkpoint):
    model = build_model(checkpoint, torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    labels = predict_image(model, image, IMAGENET_NORMALISATION, (64, 96))
    assert np.array_equal(labels, model.predict(IMAGENET_NORMALISATION(image)[None])[0].numpy())


SIZES = [(64, 96), (64, 96), (100, 70), (64, 96), (80, 120), (64, 96), (72, 108)]


@pytest.fixture(scope="module", params=["plain", "lean"])
def model(request, checkpoint):
    return build_model(replace(checkpoint, memory=request.param), torch.device("cpu"))


@pytest.fixture(scope="module")
def arrays():
    """Images whose sizes for the network are equal but for one."""
    random = np.random.default_rng(1)
    coarse = [random.integers(0, 256, (h // 8, w // 8, 3), dtype=np.uint8) for h, w in SIZES]
    return [resize_image(image, size) for image, size in zip(coarse, SIZES, strict=True)]


def labelled(model, sources, **options) -> list:
    return list(label_images(model, sources, IMAGENET_NORMALISATION, (64, 96), **options))


@pytest.mark.parametrize("batch", [1, 3])
def test_many_images_are_labelled_as_single_ones(model, arrays, batch):
    results = labelled(model, arrays, batch=batch, pixels=True)
    assert [result.labels.shape for result in results] == SIZES
    for image, result in zip(arrays, results, strict=True):
        assert result.source is image and result.pixels is image and result.probabilities is None
        alone = predict_image(model, image, IMAGENET_NORMALISATION, (64, 96))
        # In a batch sums may round differently, which decides where two classes are about equally probable.
        assert (result.labels != alone).mean() <= (0 if batch == 1 else 1e-3)


def test_batches_have_consecutive_images_of_one_size(model, arrays, monkeypatch):
    seen = []

    def label(model, images, probabilities):
        seen.append([image.network_size for image in images])
        return _label(model, images, probabilities)

    monkeypatch.setattr("ladderseg_fast.engine.predict._label", label)
    assert len(labelled(model, arrays, batch=3)) == len(arrays)
    square, other = (64, 96), (94, 66)
    assert seen == [[square] * 2, [other], [square] * 3, [square]]


def test_an_image_that_cannot_be_read_has_an_error_in_its_place(model, arrays, tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(4)]
    for file, image in zip(files, arrays[3:], strict=True):  # of one size for the network, so of one batch
        image_from_array(image).save(file)
    files[1].write_bytes(files[1].read_bytes()[:200])
    for batch in (1, 4):
        results = labelled(model, files, batch=batch)
        assert [result.source for result in results] == files
        assert [isinstance(result, LabelledImage) for result in results] == [True, False, True, True]
        assert isinstance(results[1].error, OSError) and str(files[1]) in str(results[1].error)
    assert [type(result) for result in labelled(model, files[1:2])] == [UnusableImage]


def test_memory_that_lacks_for_a_batch(model, arrays, monkeypatch):
    """The images of the batch are labelled alone; only one that is too large even so has no labels."""

    def label(model, images, probabilities):
        if len(images) > 1 or images[0].size == (80, 120):
            torch.empty(1 << 50)
        return _label(model, images, probabilities)

    monkeypatch.setattr("ladderseg_fast.engine.predict._label", label)
    results = labelled(model, arrays[3:], batch=4)
    assert [isinstance(result, LabelledImage) for result in results] == [True, False, True, True]
    assert isinstance(results[1].error, SystemRefusal)
    assert results[1].source is arrays[4]


def test_a_package_that_one_image_needs_is_missing(model, arrays):
    def read(number, form):
        if number == 1:
            raise MissingPackageError("needs a package")
        return arrays[number]

    assert [type(result) for result in labelled(model, range(3), read=read)] == [
        LabelledImage,
        UnusableImage,
        LabelledImage,
    ]


def test_any_source_with_a_reader(model, arrays):
    results = labelled(model, range(3), read=lambda number, form: arrays[number], size="own")
    assert [(result.source, result.labels.shape) for result in results] == list(enumerate(SIZES[:3]))
    assert [result.network_size for result in results] == SIZES[:3]


def test_probabilities(model, arrays):
    (result,) = labelled(model, arrays[2:3], probabilities=True)
    pixels = IMAGENET_NORMALISATION(resize_image(arrays[2], result.network_size))[None]
    with torch.no_grad(), evaluating(model):
        logits = model(pixels).logits
    expected = interpolate(logits, SIZES[2], mode="bilinear").softmax(1)[0].numpy()
    assert (result.probabilities.shape, result.probabilities.dtype) == ((3, *SIZES[2]), np.float16)
    assert np.abs(result.probabilities - expected).max() < 1e-3
    top = np.sort(result.probabilities.astype(np.float32), axis=0)
    clear = top[-1] - top[-2] > 2e-3
    assert clear.any() and np.array_equal(result.probabilities.argmax(0)[clear], result.labels[clear])


@pytest.mark.parametrize("keep", [False, True])
def test_memory_does_not_grow_with_the_number_of_images(model, arrays, keep):
    """Few of twenty exist at a time: those being read; where they are kept, also those ahead and of a batch."""
    references, most = [], 0

    class Pixels(np.ndarray):
        """An array to which there can be weak references."""

    def read(number, form):
        pixels = arrays[0].view(Pixels)
        references.append(weakref.ref(pixels))
        return pixels

    for _ in label_images(model, range(20), IMAGENET_NORMALISATION, (64, 96), read=read, batch=2, pixels=keep):
        most = max(most, sum(reference() is not None for reference in references))
    assert len(references) == 20
    assert most <= suitable_threads() + (6 if keep else 0)
