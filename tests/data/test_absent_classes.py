"""Classes that no label image holds are told before hours of training."""

import numpy as np
import pytest
from support.data_trees import random_labels, save_labels

from ladderseg_fast.data import CamVid, ImageFolder, StreetScenes, check_something_counts, look_for_classes

pytestmark = pytest.mark.real_use

SIZE = (24, 32)


def masks(root, values) -> ImageFolder:
    """The folder with every label image of the training split replaced by one of `values`."""
    (root / "classes.toml").write_text((root / "classes.toml").read_text().replace("value = 7", "value = 1"))
    for path in (root / "labels/train").iterdir():
        save_labels(path, values)
    return ImageFolder(root, "train")


def test_masks_of_0_and_255(folder_root):
    """With the usual `ignore`, the foreground counts nowhere."""
    values = np.zeros(SIZE, np.uint8)
    values[:6] = 255
    assert look_for_classes(masks(folder_root, values)) == (
        "no pixel of class 1 ('thing') in the 3 label images; ignored: 255 in 25.00% of the pixels; if this stands for "
        "a class, take it out of `ignore` and give the class its `value` in classes.toml"
    )


def test_nothing_is_ignored(folder_root):
    warning = look_for_classes(masks(folder_root, np.zeros(SIZE, np.uint8)))
    assert warning == "no pixel of class 1 ('thing') in the 3 label images; no pixel is ignored"


def test_nothing_but_ignored_pixels(folder_root):
    warning = look_for_classes(masks(folder_root, np.full(SIZE, 255, np.uint8)))
    assert warning.startswith("no pixel of classes 0 ('ground'), 1 ('thing') in the 3 label images; ignored: 255 in")


def test_ignored_colours(folder_root):
    file = folder_root / "classes.toml"
    file.write_text("ignore_colours = [[0, 0, 0]]\n" + file.read_text())
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[6:] = (128, 64, 0)
    warning = look_for_classes(masks(folder_root, pixels))
    assert "no pixel of class 1 ('thing') in the 3 label images; ignored: (0, 0, 0) in 25.00% of the pixels" in warning


def test_it_stops_when_all_are_seen(folder_root, monkeypatch):
    data, seen = ImageFolder(folder_root, "train"), []
    original = data.annotation
    monkeypatch.setattr(data, "annotation", lambda index: seen.append(index) or original(index))
    assert look_for_classes(data) is None
    assert len(seen) == 1


def test_it_does_not_read_all_of_many(folder_root):
    data = masks(folder_root, np.zeros(SIZE, np.uint8))
    assert "in the 2 label images looked at, of 3" in look_for_classes(data, most=2)


def test_no_advice_about_a_file_that_there_is_not(camvid_root):
    for path in (camvid_root / "trainannot").iterdir():
        save_labels(path, random_labels([*range(10), 11], SIZE))
    warning = look_for_classes(CamVid(camvid_root, "train"))
    assert warning.startswith("no pixel of class 10 ('bicyclist') in the 3 label images; ignored: 11 in ")
    assert "classes.toml" not in warning


def test_drawn_scenes_have_all():
    assert look_for_classes(StreetScenes(2, (64, 64), 0)) is None


def test_masks_of_0_and_255_with_a_list_of_classes(folder_root):
    """Which cannot say that 255 is a class: the warning names what can."""
    values = np.zeros(SIZE, np.uint8)
    values[:6] = 255
    masks(folder_root, values)
    (folder_root / "classes.toml").unlink()
    (folder_root / "classes.txt").write_text("ground\nthing\n")
    data = ImageFolder(folder_root, "train")
    assert look_for_classes(data).endswith(
        "; if this stands for a class, write a classes.toml in place of classes.txt, with `ignore` and each class's "
        "`value`"
    )


def test_something_counts(folder_root):
    """In one pixel of the last label image, and then in none."""
    data = masks(folder_root, np.full(SIZE, 255, np.uint8))
    with pytest.raises(ValueError, match=r"every pixel of all 3 label images, .*a\.png and so on, is ignored"):
        check_something_counts(data)
    values = np.full(SIZE, 255, np.uint8)
    values[-1, -1] = 0
    save_labels(data.files(2)[1], values)
    check_something_counts(data)
    check_something_counts(StreetScenes(1, SIZE, 0))
