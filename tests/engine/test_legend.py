"""The colours of classes below a picture."""

import numpy as np
import pytest

from ladderseg_fast.data import IGNORE_INDEX, LabelSet
from ladderseg_fast.engine.evaluation.comparison import truth_and_prediction
from ladderseg_fast.engine.legend import legend, present_classes

pytestmark = pytest.mark.real_use

LABELS = LabelSet(("road", "tree", "a very long name of a class"), ((200, 0, 0), (0, 200, 0), (0, 0, 200)))


def colours_of(picture) -> set[tuple[int, int, int]]:
    return {tuple(colour) for colour in np.asarray(picture).reshape(-1, 3).tolist()}


def test_only_what_occurs():
    some = legend(LABELS, {0, 2}, 600)
    assert some.size == (600, 24)
    assert {(200, 0, 0), (0, 0, 200)} < colours_of(some)
    assert (0, 200, 0) not in colours_of(some)


def test_rows_of_as_many_as_there_is_room_for():
    assert legend(LABELS, {0, 1}, 600).height == 24
    assert legend(LABELS, {0, 1}, 80).height == 48
    narrow = legend(LABELS, {0, 1, 2}, 40)
    assert narrow.height == 48 and narrow.width > 150, "as wide as the longest name"


def test_what_is_ignored():
    assert (48, 48, 48) in colours_of(legend(LABELS, {0, IGNORE_INDEX}, 600))


def test_names_that_are_no_single_line():
    assert legend(LabelSet(("a\nb",), ((1, 2, 3),)), {0}, 100).height == 24


def test_truth_beside_prediction():
    image = np.zeros((40, 300, 3), np.uint8)
    labels = np.zeros((40, 300), np.uint8)
    labels[:, :10] = IGNORE_INDEX
    picture = truth_and_prediction(image, labels, np.ones_like(labels), LABELS, "a title")
    assert picture.size == (2 * 300 + 6, 60 + 40 + 24)
    truth, prediction = picture.getpixel((150, 80)), picture.getpixel((306 + 150, 80))
    assert (truth, prediction) == ((100, 0, 0), (0, 100, 0)), "half of the classes' colours over black"
    assert {(200, 0, 0), (0, 200, 0), (48, 48, 48)} < colours_of(picture.crop((0, 100, 606, 124)))


def test_present_classes():
    assert present_classes(np.array([[0, 3]], np.uint8), np.array([255, 3], np.uint8)) == {0, 3, 255}
