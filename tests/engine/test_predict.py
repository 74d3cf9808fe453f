"""Prediction on images of any size."""

import numpy as np
import pytest
import torch

from ladderseg_fast.data import IMAGENET_NORMALISATION
from ladderseg_fast.engine import build_model, predict_image, prediction_size


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
