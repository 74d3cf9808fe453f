"""CamVid's layout: what is read, and what is said about data sets that are not whole."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladderseg_fast.data import IGNORE_INDEX, CamVid, check_pairs


def test_reads_pairs_in_the_order_of_the_list(camvid_root):
    data = CamVid(camvid_root, "train")
    assert [data[i].name for i in range(len(data))] == ["a", "b", "c"]
    sample = data[1]
    assert np.array_equal(sample.image, np.asarray(Image.open(camvid_root / "train/b.png")))
    annotation = np.asarray(Image.open(camvid_root / "trainannot/b.png"))
    assert np.array_equal(sample.labels[annotation < 11], annotation[annotation < 11])


def test_void_becomes_the_ignore_index(camvid_root):
    labels = CamVid(camvid_root, "val")[0].labels
    annotation = np.asarray(Image.open(camvid_root / "valannot/d.png"))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels == IGNORE_INDEX, annotation == 11)
    assert labels[labels != IGNORE_INDEX].max() == len(CamVid.label_set) - 1


def test_missing_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such directory \(the root of CamVid\)"):
        CamVid(tmp_path / "nowhere", "train")


def test_missing_list(camvid_root):
    (camvid_root / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.txt: no such file \(the list"):
        CamVid(camvid_root, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "the list is empty"),
        ("a b", "a line is the stem of an image, its path, or its path and that of its annotation .*, got 'a b'"),
        ("train/a.png trainannot/a.png 3", "a line is the stem of an image"),
        ("train/a", "a line is the stem of an image"),
        ("/CamVid/../train/a.png", "a line is the stem of an image"),
        ("a\nb\na\n", "a is listed twice"),
        ("a\ntrain/a.png trainannot/a.png\n", "a is listed twice"),
    ],
)
def test_malformed_list(camvid_root, text, message):
    (camvid_root / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        CamVid(camvid_root, "train")


@pytest.mark.real_use
@pytest.mark.parametrize(
    "line",
    [
        "/SegNet/CamVid/train/{0}.png /SegNet/CamVid/trainannot/{0}.png",
        "/SegNet/CamVid/train/{0}.png\t/SegNet/CamVid/trainannot/{0}.png\r",
        "CamVid\\train\\{0}.png CamVid\\trainannot\\{0}.png",
        "./train/{0}.png ./trainannot/{0}.png",
        "/SegNet/CamVid/train/{0}.png",
        "{0}.png {0}.png",
        "{0}.png",
    ],
)
def test_lists_as_published(camvid_root, line):
    """SegNet's authors list both files of a pair, under the root that they had."""
    plain = CamVid(camvid_root, "train").pairs
    (camvid_root / "train.txt").write_text("\ufeff" + "\n".join(line.format(stem) for stem in "abc") + "\n")
    data = CamVid(camvid_root, "train")
    check_pairs(data)
    assert data.pairs == plain


@pytest.mark.real_use
def test_the_list_says_which_folder(camvid_root):
    """A split of one's own may list images of another's folder."""
    (camvid_root / "mine.txt").write_text("/SegNet/CamVid/val/d.png /SegNet/CamVid/valannot/d.png\n")
    assert CamVid(camvid_root, "mine").pairs == CamVid(camvid_root, "val").pairs


@pytest.mark.real_use
def test_listed_file_that_is_missing(camvid_root):
    (camvid_root / "train.txt").write_text("/SegNet/CamVid/train/z.png /SegNet/CamVid/trainannot/z.png\n")
    with pytest.raises(ValueError, match=rf"{camvid_root}/train/z\.png: no such file"):
        check_pairs(CamVid(camvid_root, "train"))


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_missing_half_of_a_pair(camvid_root, folder):
    (camvid_root / folder / "b.png").unlink()
    data = CamVid(camvid_root, "train")
    with pytest.raises(FileNotFoundError, match=rf"{folder}.b\.png: no such file"):
        data[1]
    with pytest.raises(ValueError, match=rf"{folder}.b\.png: no such file; "):
        check_pairs(data)


def test_annotation_of_another_size(camvid_root):
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(camvid_root / "trainannot/a.png")
    with pytest.raises(ValueError, match=r"annot.a\.png: annotation is 24x30 but its image .*train.a\.png is 24x32"):
        CamVid(camvid_root, "train")[0]


def test_label_out_of_range(camvid_root):
    Image.fromarray(np.full((24, 32), 12, np.uint8)).save(camvid_root / "trainannot/a.png")
    with pytest.raises(ValueError, match=r"a\.png: labels must be 0 to 11, found 12 \(row 0, column 0"):
        CamVid(camvid_root, "train")[0]


@pytest.mark.real_use
def test_colour_annotation(camvid_root):
    Image.new("RGB", (32, 24)).save(camvid_root / "trainannot/a.png")
    with pytest.raises(
        ValueError, match=r"a\.png: an annotation is an 8-bit grey or palette image, got mode RGB"
    ) as error:
        CamVid(camvid_root, "train")[0]
    assert str(error.value).endswith("unless a classes.toml (--data folder) lists the classes' colours")


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_truncated_file_is_named(camvid_root, folder):
    path = camvid_root / folder / "c.png"
    path.write_bytes(path.read_bytes()[:60])
    data = CamVid(camvid_root, "train")
    with pytest.raises(OSError, match=rf"{folder}.c\.png: cannot read the image"):
        data[2]


@pytest.mark.skipif(
    "LADDERSEG_FAST_CAMVID" not in os.environ, reason="LADDERSEG_FAST_CAMVID does not name CamVid's root"
)
def test_real_camvid():
    root = Path(os.environ["LADDERSEG_FAST_CAMVID"])
    training, validation = CamVid(root, "train"), CamVid(root, "val")
    assert (len(training), len(validation)) == (367, 101)
    counts = np.zeros(256, np.int64)
    for i in range(len(validation)):
        sample = validation[i]
        assert sample.image.shape == (360, 480, 3)
        counts += np.bincount(sample.labels.ravel(), minlength=256)
    assert (counts[: len(CamVid.label_set)] > 0).all()
    assert counts[len(CamVid.label_set) : IGNORE_INDEX].sum() == 0
    assert counts.argmax() == CamVid.label_set.names.index("road")
