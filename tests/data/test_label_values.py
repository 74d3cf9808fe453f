"""What values in label images mean."""

from pathlib import Path

import numpy as np
import pytest

from ladderseg_fast.data import IGNORE_INDEX, LabelValues

PATH = Path("some/labels.png")


def test_values_become_classes():
    values = LabelValues({3: 0, 5: 1, 9: 1}, ignored=(0, 200))
    found = values.to_classes(np.array([[3, 5, 9], [0, 200, 3]], np.uint8), PATH)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1, 1], [IGNORE_INDEX, IGNORE_INDEX, 0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (LabelValues.plain(3), "0 to 2 or 255"),
        (LabelValues.plain(255), "0 to 255"),
        (LabelValues.plain(1, ignored=()), "0"),
        (LabelValues({0: 0, 2: 1, 3: 2}, ignored=(255,)), "0, 2 to 3 or 255"),
    ],
)
def test_message_says_what_is_expected(values, expected):
    if expected == "0 to 255":
        values.to_classes(np.arange(256, dtype=np.uint8)[None], PATH)
        return
    labels = np.zeros((4, 5), np.uint8)
    labels[2, 1] = labels[3, 0] = 254
    with pytest.raises(ValueError) as caught:
        values.to_classes(labels, PATH)
    assert str(caught.value) == (
        f"some/labels.png: labels must be {expected}, found 254 (row 2, column 1, and 2 such pixels in all)"
    )


@pytest.mark.parametrize(
    ("classes", "ignored", "message"),
    [
        ({256: 0}, (), "a label value must be 0 to 255, got 256"),
        ({0: 0}, (-1,), "a label value must be 0 to 255, got -1"),
        ({0: 255}, (), "a class must be 0 to 254, got 255"),
        ({4: 0}, (4,), "label value 4 is both a class and ignored"),
    ],
)
def test_rejects(classes, ignored, message):
    with pytest.raises(ValueError, match=message):
        LabelValues(classes, ignored)
