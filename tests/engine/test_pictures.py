"""Overlays, label images and the curve."""

import numpy as np
import pytest
from PIL import Image

from ladderseg_fast.data import LabelSet
from ladderseg_fast.engine.curve import write_curve
from ladderseg_fast.engine.overlay import overlay, write_labels
from ladderseg_fast.engine.plotting import ticks

LABELS = LabelSet(("a", "b"), ((255, 0, 0), (0, 0, 100)))


def test_overlay_blends_half_and_half():
    image = np.array([[[100, 50, 0], [20, 20, 20]]], np.uint8)
    labels = np.array([[0, 1]], np.uint8)
    # 177.5 rounds to the even neighbour
    assert overlay(image, labels, LABELS).tolist() == [[[178, 25, 0], [10, 10, 60]]]


def test_label_image_holds_eight_bit_indices(tmp_path):
    labels = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    path = tmp_path / "labels.png"
    write_labels(path, labels, LABELS)
    assert path.read_bytes()[24:26] == bytes([8, 3]), "bit depth 8, colour type palette"
    picture = Image.open(path)
    assert np.array_equal(np.asarray(picture), labels)
    assert picture.convert("RGB").getpixel((1, 0)) == (0, 0, 100)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.0, 2.9, 6, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (0.0, 100.0, 6, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
        (0.0, 0.031, 6, [0.0, 0.01, 0.02, 0.03]),
    ],
)
def test_ticks(low, high, most, expected):
    assert ticks(low, high, most) == expected


def test_ticks_of_steps_are_whole():
    assert ticks(0, 3, 10, whole=True) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("losses", "scores"),
    [([2.0], []), ([0.0, 0.0], [(2, 0.0, 0.0)]), ([90.0, 2.0] + [1.0] * 98, [(50, 0.3, 0.7), (100, 0.4, 0.8)])],
)
def test_curve_is_drawn_inside_its_panels(tmp_path, losses, scores):
    path = tmp_path / "curve.png"
    write_curve(path, "title", losses, scores, steps=len(losses))
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    blue = (picture[..., 2] - picture[..., 0] > 60).nonzero()
    # the curve of the loss stays below the legend's row and above the lower panel
    assert blue[0].max() < 380
    assert len(blue[0]) > 50 * (len(losses) > 1)
    orange = (picture[..., 0] - picture[..., 2] > 120).nonzero()
    assert (orange[0] > 380).all()
    assert len(orange[0]) > 50
