"""One's own data in the usual layouts: all give the same pairs, and what could be meant twice is an error."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.data_trees import make_folder, save_image, save_labels

from ladderseg_fast.data import ImageFolder, Sample, check_pairs

pytestmark = pytest.mark.real_use

SIZE = (24, 32)


def samples(root: Path, split: str = "train") -> list[Sample]:
    data = ImageFolder(root, split)
    check_pairs(data)
    return [data[i] for i in range(len(data))]


def same(one: list[Sample], other: list[Sample]) -> bool:
    return len(one) == len(other) and all(
        a.name == b.name and np.array_equal(a.image, b.image) and np.array_equal(a.labels, b.labels)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def expected(tmp_path) -> list[Sample]:
    return samples(make_folder(tmp_path / "plain"))


@pytest.mark.parametrize("name", ["masks", "Masks", "mask", "label", "annotations", "gt", "ground_truth", "ann_dir"])
def test_names_of_the_folder_of_labels(folder_root, expected, name):
    (folder_root / "labels").rename(folder_root / name)
    assert same(samples(folder_root), expected)


@pytest.mark.parametrize("name", ["Images", "imgs", "img_dir", "JPEGImages"])
def test_names_of_the_folder_of_images(folder_root, expected, name):
    (folder_root / "images").rename(folder_root / name)
    assert same(samples(folder_root), expected)


def split_first(root: Path, labels: str = "labels") -> None:
    for split in ("train", "val"):
        for kind, name in (("images", "images"), ("labels", labels)):
            (root / split).mkdir(exist_ok=True)
            (root / kind / split).rename(root / split / name)
    (root / "images").rmdir()
    (root / "labels").rmdir()


@pytest.mark.parametrize("labels", ["labels", "masks"])
def test_splits_above_the_kinds(folder_root, expected, labels):
    split_first(folder_root, labels)
    assert same(samples(folder_root), expected)
    assert len(samples(folder_root, "val")) == 1


@pytest.mark.parametrize("suffix", ["_mask", "_label", "_gt", "_labels", "_seg", "_Mask"])
def test_suffixes_of_label_images(folder_root, expected, suffix):
    for path in (folder_root / "labels/train").iterdir():
        path.rename(path.with_name(f"{path.stem}{suffix}.png"))
    assert same(samples(folder_root), expected)


def test_suffix_that_is_part_of_the_images_name(folder_root, expected):
    for kind in ("images", "labels"):
        path = folder_root / kind / "train/a.png"
        path.rename(path.with_name("a_mask.png"))
    assert [sample.name for sample in samples(folder_root)] == ["a_mask", "b", "c"]


def test_missing_label_image_is_called_as_the_others(folder_root):
    for path in (folder_root / "labels/train").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    (folder_root / "labels/train/b_mask.png").unlink()
    (folder_root / "images/train/c.png").unlink()
    with pytest.raises(ValueError, match=r"labels/train/b_mask\.png: no such file\n.*images/train/c\.\*: no such file"):
        samples(folder_root)


def test_two_label_images_of_one_image(folder_root):
    save_labels(folder_root / "labels/train/a_mask.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match=r"labels/train/a\.png and a_mask\.png are both called as labels of the image"):
        samples(folder_root)


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "._a.png", "__MACOSX/"])
def test_what_systems_leave_behind(folder_root, expected, name):
    for folder in ("", "images", "images/train", "labels/train"):
        path = folder_root / folder / name
        path.mkdir() if name.endswith("/") else path.write_bytes(b"x")
    assert same(samples(folder_root), expected)


def whole(root: Path, count: int = 40) -> Path:
    for k in range(count):
        save_image(root / f"images/i{k}.jpg", SIZE, k)
        save_labels(root / f"masks/i{k}_mask.png", np.zeros(SIZE, np.uint8))
    (root / "classes.txt").write_text("one\ntwo\n")
    return root


def test_no_splits(tmp_path):
    root = whole(tmp_path)
    train, val = ([sample.name for sample in samples(root, split)] for split in ("train", "val"))
    assert sorted(train + val) == sorted(f"i{k}" for k in range(40)) == [s.name for s in samples(root, "all")]
    assert 1 <= len(val) <= 10
    assert len(ImageFolder(root, "val", val_share=0.5)) > len(val)
    names = [{data.name(i) for i in range(len(data))} for data in (ImageFolder(root, "val", 0.5, s) for s in (0, 1))]
    assert names[0] != names[1]
    with pytest.raises(ValueError, match="no split 'test': images and masks have no folders of splits, so theirs are"):
        ImageFolder(root, "test")


def test_splits_stay_when_images_are_added(tmp_path):
    root = whole(tmp_path)
    before = {sample.name for sample in samples(root, "val")}
    whole(root, 60)
    after = {sample.name for sample in samples(root, "val")}
    assert {name for name in after if int(name[1:]) < 40} == before


def test_one_image_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}: 1 image cannot be split into train and val"):
        ImageFolder(whole(tmp_path, 1), "train")


def test_two_folders_of_labels(folder_root, expected):
    shutil.copytree(folder_root / "labels", folder_root / "masks")
    message = "one folder of labels, label, masks, .* is expected, but there are labels, masks"
    with pytest.raises(ValueError, match=message):
        samples(folder_root)
    # Other files do not make it one of labels.
    shutil.rmtree(folder_root / "masks")
    (folder_root / "annotations").mkdir()
    (folder_root / "annotations/instances.json").write_text("{}")
    assert same(samples(folder_root), expected)


def test_split_in_two_places(folder_root):
    shutil.copytree(folder_root / "images/train", folder_root / "train/images")
    message = "the split 'train' could be in several folders: images/train, labels/train, train/images"
    with pytest.raises(ValueError, match=message):
        samples(folder_root)


def test_images_beside_the_folders_of_splits(folder_root):
    save_image(folder_root / "images/e.png", SIZE)
    message = "both images and folders in images and labels, .*: images/train, images/val, labels/train, .*images/e.png"
    with pytest.raises(ValueError, match=message):
        samples(folder_root)


def test_unknown_layout_lists_what_is_there(folder_root):
    (folder_root / "labels").rename(folder_root / "truth")
    message = "no folder labels or label or masks .* here; there is classes.toml, images, truth"
    with pytest.raises(FileNotFoundError, match=message):
        samples(folder_root)


def test_missing_split_lists_those_there(folder_root):
    with pytest.raises(FileNotFoundError, match="images/valid: no such directory; images has train, val"):
        samples(folder_root, "valid")


def test_missing_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none: no such directory \(the root of the images and labels\)"):
        samples(tmp_path / "none")


def test_jpeg_among_the_labels(folder_root):
    save_image(folder_root / "labels/train/a.jpg", SIZE)
    with pytest.raises(ValueError, match=r"a\.jpg: only files that end in \.png are .*JPEG's compression changes"):
        samples(folder_root)


def test_all_wrong_pairs_are_listed(folder_root, capsys):
    """Up to twenty, with both files of each."""
    for k in range(30):
        save_image(folder_root / f"images/train/x{k:02}.png", SIZE)
        save_labels(folder_root / f"labels/train/x{k:02}.png", np.zeros((SIZE[0] + 1, SIZE[1]), np.uint8))
    with pytest.raises(ValueError) as caught:
        check_pairs(ImageFolder(folder_root, "train"))
    first, *lines = str(caught.value).split("\n")
    assert first == "30 of 33 samples cannot be used:"
    wrong = rf"  {folder_root}/labels/train/x\d\d\.png: annotation is 25x32 but its image .* is 24x32 \(HxW\)"
    assert all(re.fullmatch(wrong, line) for line in lines[:20])
    assert lines[20:] == ["  and 10 more", "`ladderseg data check` reads the pixels as well"]
