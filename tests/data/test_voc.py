"""Pascal VOC 2012 and SBD: layouts, splits, the palette."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.data_trees import make_sbd

from ladderseg_fast.data import IGNORE_INDEX, VOC_LABELS, PascalVOC, check_pairs
from ladderseg_fast.data.voc import voc_colour


def names(data):
    return [data.name(i) for i in range(len(data))]


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_three(voc_root, below):
    data = PascalVOC(voc_root / below, "train")
    check_pairs(data)
    home = voc_root / "VOCdevkit/VOC2012"
    assert data.files(1) == (home / "JPEGImages/t1.jpg", home / "SegmentationClass/t1.png")


def test_splits(voc_root):
    assert names(PascalVOC(voc_root, "train")) == ["t0", "t1", "t2"]
    assert names(PascalVOC(voc_root, "val")) == ["v0", "v1"]
    assert names(PascalVOC(voc_root, "trainval")) == ["t0", "t1", "t2", "v0", "v1"]


def test_indices_of_the_palette_are_the_classes(voc_root):
    data = PascalVOC(voc_root, "val")
    picture = Image.open(data.files(0)[1])
    assert picture.mode == "P"
    labels = data[0].labels
    assert np.array_equal(labels, np.asarray(picture))
    assert set(np.unique(labels)) == {*range(21), IGNORE_INDEX}


def test_test_split_has_no_labels(voc_root):
    data = PascalVOC(voc_root, "test")
    check_pairs(data)
    assert not data.labelled
    assert (data[0].labels == IGNORE_INDEX).all()
    with pytest.raises(ValueError, match=r"x0\.jpg: this split has no labels"):
        data.annotation(0)


@pytest.mark.parametrize("folder", ["SegmentationClassAug", "dataset/cls_png", "."])
def test_sbd_adds_to_train(voc_root, tmp_path, folder):
    make_sbd(tmp_path / "sbd" / folder)
    data = PascalVOC(voc_root, "train", sbd=tmp_path / "sbd")
    check_pairs(data)
    assert names(data) == ["s0", "s1", "t0", "t1", "t2"], "v0 is held out"
    assert (data[0].labels == 5).all()
    assert len(np.unique(data[2].labels)) == 22, "VOC's own labels are preferred"
    assert data.files(0)[0] == voc_root / "VOCdevkit/VOC2012/JPEGImages/s0.jpg"


def test_sbd_and_the_other_splits(voc_root, tmp_path):
    make_sbd(tmp_path / "sbd")
    trainval = PascalVOC(voc_root, "trainval", sbd=tmp_path / "sbd")
    assert names(trainval) == ["s0", "s1", "t0", "t1", "t2", "v0", "v1"]
    assert len(np.unique(trainval[5].labels)) == 22
    assert names(PascalVOC(voc_root, "val", sbd=tmp_path / "sbd")) == ["v0", "v1"]
    assert names(PascalVOC(voc_root, "test", sbd=tmp_path / "sbd")) == ["x0"]


def test_sbd_without_pngs(voc_root, tmp_path):
    (tmp_path / "dataset/cls").mkdir(parents=True)
    (tmp_path / "dataset/cls/s0.mat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no PNG here nor in .*; SBD's \.mat files have to be converted first"):
        PascalVOC(voc_root, "train", sbd=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such directory \(of SBD's labels\)"):
        PascalVOC(voc_root, "train", sbd=tmp_path / "nowhere")


def test_missing_parts(voc_root, tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory JPEGImages here, in VOC2012 or in VOCdevkit/VOC2012"):
        PascalVOC(tmp_path / "elsewhere", "train")
    with pytest.raises(ValueError, match="VOC has the splits train, val, trainval, test, not 'train_aug'"):
        PascalVOC(voc_root, "train_aug")
    (voc_root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.txt: no such file"):
        PascalVOC(voc_root, "val")


def test_list_of_more_than_stems(voc_root):
    """Such as a benchmark's list of pairs of files."""
    list_ = voc_root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    for line in ("JPEGImages/v0.jpg", "v0 1"):
        list_.write_text(f"{line}\n")
        with pytest.raises(ValueError, match=rf"val\.txt: one file stem a line is expected, got '{line}'"):
            PascalVOC(voc_root, "val")


def test_colours():
    """Of the development kit: VOClabelcolormap."""
    assert [voc_colour(k) for k in (0, 1, 2, 8, 20)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (64, 0, 0),
        (0, 64, 128),
    ]
    assert voc_colour(255) == (224, 224, 192)
    assert VOC_LABELS.names[15] == "person"
    assert VOC_LABELS.palette[15] == (192, 128, 128)


@pytest.mark.skipif("LADDERSEG_FAST_VOC" not in os.environ, reason="LADDERSEG_FAST_VOC does not name VOC images")
def test_real_voc(tmp_path):
    """LADDERSEG_FAST_VOC may hold a few images only, without lists: a list of what is there is made."""
    source = Path(os.environ["LADDERSEG_FAST_VOC"])
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / folder).symlink_to(source / folder)
    stems = sorted(path.stem for path in (source / "SegmentationClass").glob("*.png"))[:20]
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("\n".join(stems))
    data = PascalVOC(tmp_path, "val")
    check_pairs(data)
    for i in range(len(data)):
        sample = data[i]
        assert sample.image.shape == (*sample.labels.shape, 3)
        assert IGNORE_INDEX in sample.labels
        assert len(np.unique(sample.labels)) > 2
    palette = np.asarray(Image.open(data.files(0)[1]).getpalette()).reshape(-1, 3)
    assert np.array_equal(palette, [voc_colour(k) for k in range(len(palette))])
