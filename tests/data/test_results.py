"""Predictions as the benchmarks' servers take them: what is written is read back as the same classes."""

from fnmatch import fnmatch

import numpy as np
import pytest
from PIL import Image
from support.data_trees import random_labels

from ladderseg_fast.data import CITYSCAPES_TRAINED, RESULT_FORMATS, Cityscapes, PascalVOC


def test_cityscapes_result_is_label_ids(cityscapes_root):
    """Written in the labels' place, a result is read as the prediction that it was made of."""
    data = Cityscapes(cityscapes_root, "val")
    classes = random_labels(list(range(19)), (24, 48))
    RESULT_FORMATS["cityscapes"].image(classes).save(data.files(0)[1])
    assert np.array_equal(data[0].labels, classes)
    picture = Image.open(data.files(0)[1])
    assert picture.mode == "L"
    assert set(np.unique(np.asarray(picture))) == {label.id for label in CITYSCAPES_TRAINED}


def test_cityscapes_file_name_is_found_by_the_server():
    path = RESULT_FORMATS["cityscapes"].path("berlin_000000_000019")
    assert fnmatch(path.name, "berlin_000000_000019*.png")


def test_voc_result_is_a_palette_png(voc_root):
    data = PascalVOC(voc_root, "val")
    classes = random_labels(list(range(21)), (20, 30))
    RESULT_FORMATS["voc"].image(classes).save(data.files(0)[1])
    assert np.array_equal(data[0].labels, classes)
    picture = Image.open(data.files(0)[1])
    assert picture.mode == "P"
    assert (picture.convert("RGB").getpixel((3, 0)), classes[0, 3]) == ((128, 128, 0), 3)
    assert data.files(0)[1].read_bytes()[24] == 8, "bits per pixel"


def test_voc_path():
    path = RESULT_FORMATS["voc"].path("2008_000006")
    assert str(path) == "results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"


@pytest.mark.parametrize(("kind", "count"), [("cityscapes", 19), ("voc", 21)])
def test_rejects_what_is_no_class(kind, count):
    make = RESULT_FORMATS[kind].image
    with pytest.raises(ValueError, match=f"classes must be 0 to {count - 1}, got {count}"):
        make(np.full((2, 2), count, np.uint8))
    with pytest.raises(ValueError, match=r"classes must be an uint8 array \[H, W\], got int64 \(2, 2\)"):
        make(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match=r"got uint8 \(1, 2, 2\)"):
        make(np.zeros((1, 2, 2), np.uint8))
