"""The thorough check: what it counts."""

import numpy as np
import pytest

from ladderseg_fast.data import Cityscapes, ImageFolder, survey


@pytest.mark.parametrize("workers", [0, 2])
def test_counts_what_is_there(folder_root, workers):
    (folder_root / "images/train/b.png").write_bytes(b"")
    data = ImageFolder(folder_root, "train")
    done = []
    found = survey(data, workers, done.append)
    assert done == [1, 2, 3]
    assert (found.samples, found.broken) == (3, 1)
    assert found.problems == [f"{folder_root / 'images/train/b.png'}: the file is empty"]
    assert found.sizes == {(24, 32): 2}
    labels = [data.labels(i) for i in range(3)]
    assert np.array_equal(found.pixels, np.bincount(np.concatenate(labels).ravel(), minlength=256))
    assert found.images[[0, 1, 255]].tolist() == [3, 3, 3]
    assert found.images.sum() == 9


def test_split_without_labels(cityscapes_root):
    found = survey(Cityscapes(cityscapes_root, "test"))
    assert (found.samples, found.broken, found.pixels.sum()) == (1, 0, 0)
    assert found.sizes == {(24, 48): 1}
