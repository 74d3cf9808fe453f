"""Median frequency balancing, worked out by hand."""

import numpy as np
import pytest

from ladderseg_fast.data import IGNORE_INDEX, LabelSet, Sample, SegmentationDataset
from ladderseg_fast.engine.class_weights import median_frequency_weights


class Labels(SegmentationDataset):
    """Samples of which only the labels matter."""

    label_set = LabelSet(("a", "b", "c", "d"), ((0, 0, 0),) * 4)

    def __init__(self, *rows):
        self.rows = [np.array([row], np.uint8) for row in rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        labels = self.rows[index]
        return Sample(self.name(index), np.zeros((*labels.shape, 3), np.uint8), labels)

    def name(self, index):
        return str(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_weights_by_hand(workers):
    samples = Labels([0, 0, 0, 1, IGNORE_INDEX], [0, 0, 2, 2, 2, 2, 2, 2, 2, 2], [IGNORE_INDEX])
    done = []
    weights = median_frequency_weights(samples, workers, done.append)
    # a: 5 of 14 pixels; b: 1 of 4, as the second image has none; c: 8 of 10; d occurs nowhere. The median is 5/14.
    assert weights == pytest.approx((1.0, 5 / 14 / (1 / 4), 5 / 14 / (8 / 10), 1.0))
    assert done == [1, 2, 3]


def test_no_label_at_all():
    with pytest.raises(ValueError, match="no training image has a labelled pixel"):
        median_frequency_weights(Labels([IGNORE_INDEX]), 0, lambda done: None)
