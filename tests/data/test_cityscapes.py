"""Cityscapes: the label table, the official folders, the classes that the labels become."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image
from support.data_trees import random_labels, save_image, save_labels

from ladderseg_fast.data import (
    CITYSCAPES_CATEGORIES,
    CITYSCAPES_LABEL_SET,
    CITYSCAPES_LABELS,
    CITYSCAPES_TRAINED,
    IGNORE_INDEX,
    Cityscapes,
    check_pairs,
)


def test_table_is_that_of_cityscapesscripts():
    official = pytest.importorskip("cityscapesscripts.helpers.labels", reason="cityscapesscripts is not installed")
    ours = [
        (x.name, x.id, x.train_id, x.category, x.category_id, x.has_instances, x.ignore_in_eval, x.colour)
        for x in CITYSCAPES_LABELS
    ]
    assert ours == [tuple(label) for label in official.labels]


def test_table_is_whole():
    assert [label.id for label in CITYSCAPES_LABELS] == [*range(34), -1]
    assert [label.train_id for label in CITYSCAPES_TRAINED] == list(range(19))
    assert sum(label.has_instances for label in CITYSCAPES_TRAINED) == 8
    assert {label.category for label in CITYSCAPES_TRAINED} == set(CITYSCAPES_CATEGORIES) - {"void"}
    by_name = {label.name: label for label in CITYSCAPES_LABELS}
    assert (by_name["road"].id, by_name["road"].train_id, by_name["road"].colour) == (7, 0, (128, 64, 128))
    assert (by_name["bicycle"].id, by_name["bicycle"].train_id, by_name["bicycle"].category_id) == (33, 18, 7)
    assert (by_name["caravan"].ignore_in_eval, by_name["caravan"].has_instances) == (True, True)
    assert CITYSCAPES_LABEL_SET.names[13] == "car"


def test_reads_pairs_city_by_city(cityscapes_root):
    data = Cityscapes(cityscapes_root, "train")
    check_pairs(data)
    names = ["aachen_000000_000019", "aachen_000001_000019", "ulm_000000_000019", "ulm_000001_000019"]
    assert [data.name(i) for i in range(len(data))] == names
    sample = data[3]
    image, labels = data.files(3)
    assert sample.name == names[3]
    assert image == cityscapes_root / "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png"
    assert labels == cityscapes_root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png"
    assert np.array_equal(sample.image, np.asarray(Image.open(image)))


def test_ids_become_classes(cityscapes_root):
    data = Cityscapes(cityscapes_root, "val")
    ids = np.asarray(Image.open(data.files(0)[1]))
    classes = data[0].labels
    assert classes.dtype == np.uint8
    for label in CITYSCAPES_LABELS[:-1]:
        expected = IGNORE_INDEX if label.ignore_in_eval else label.train_id
        assert (classes[ids == label.id] == expected).all()
        assert (ids == label.id).any()


def test_train_ids_are_preferred_where_they_are(cityscapes_root):
    values = random_labels([*range(19), 255], (24, 48))
    save_labels(cityscapes_root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelTrainIds.png", values)
    data = Cityscapes(cityscapes_root, "train")
    assert len(data) == 4
    assert np.array_equal(data[2].labels, values)
    assert [data.files(i)[1].name.rpartition("_")[2] for i in range(4)] == [
        "labelIds.png",
        "labelIds.png",
        "labelTrainIds.png",
        "labelIds.png",
    ]


@pytest.mark.parametrize(("kind", "value"), [("labelIds", 34), ("labelTrainIds", 19)])
def test_values_outside_the_table(cityscapes_root, kind, value):
    path = cityscapes_root / f"gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_{kind}.png"
    save_labels(path, np.full((24, 48), value, np.uint8))
    with pytest.raises(ValueError, match=rf"_{kind}\.png: labels must be 0 to .*, found {value} \(row 0, column 0"):
        Cityscapes(cityscapes_root, "val")[0]


def test_coarse_labels(cityscapes_root):
    coarse, fine = Cityscapes(cityscapes_root, "train", coarse=True), Cityscapes(cityscapes_root, "train")
    assert coarse.files(0)[1] == cityscapes_root / "gtCoarse/train/aachen/aachen_000000_000019_gtCoarse_labelIds.png"
    assert coarse.files(0)[0] == fine.files(0)[0]
    assert (coarse[0].labels == IGNORE_INDEX).mean() > 0.5
    val = Cityscapes(cityscapes_root, "val", coarse=True)
    assert val.files(0) == Cityscapes(cityscapes_root, "val").files(0)


def test_train_extra_is_coarse(cityscapes_root):
    data = Cityscapes(cityscapes_root, "train_extra")
    check_pairs(data)
    assert data.files(0)[1].parts[-4:-1] == ("gtCoarse", "train_extra", "augsburg")
    assert set(np.unique(data[0].labels)) == {0, 1, 2, IGNORE_INDEX}


def test_test_split_has_no_labels(cityscapes_root):
    dummy = cityscapes_root / "gtFine/test/berlin/berlin_000000_000019_gtFine_labelIds.png"
    save_labels(dummy, np.zeros((24, 48), np.uint8))
    data = Cityscapes(cityscapes_root, "test")
    check_pairs(data)
    assert not data.labelled
    assert len(data.files(0)) == 1
    assert (data[0].labels == IGNORE_INDEX).all()
    assert data[0].labels.shape == (24, 48)
    with pytest.raises(ValueError, match="berlin_000000_000019: this split of Cityscapes has no labels"):
        data.instances(0)


def test_instances_lie_beside_the_labels(cityscapes_root):
    data = Cityscapes(cityscapes_root, "val")
    path = data.instances(1)
    assert path.name == "frankfurt_000000_000576_gtFine_instanceIds.png"
    assert np.asarray(Image.open(path)).max() > 24000


def test_either_half_of_a_pair_may_be_missing(cityscapes_root):
    (cityscapes_root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    (cityscapes_root / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png").unlink()
    data = Cityscapes(cityscapes_root, "train")
    assert len(data) == 4
    problems = Counter()
    for i in range(4):
        try:
            data.check_pair(i)
        except FileNotFoundError as error:
            problems[str(error).rpartition("/")[2]] += 1
    assert problems == {
        "aachen_000001_000019_leftImg8bit.png: no such file": 1,
        "ulm_000000_000019_gtFine_labelIds.png: no such file": 1,
    }


def test_other_files_do_not_matter(cityscapes_root):
    (cityscapes_root / "leftImg8bit/train/license.txt").write_text("")
    (cityscapes_root / "leftImg8bit/train/ulm/Thumbs.db").write_text("")
    save_image(cityscapes_root / "gtFine/train/ulm/ulm_000000_000019_gtFine_color.png", (24, 48))
    assert len(Cityscapes(cityscapes_root, "train")) == 4


def test_unknown_split(cityscapes_root):
    with pytest.raises(ValueError, match="Cityscapes has the splits train, val, test, train_extra, not 'trainval'"):
        Cityscapes(cityscapes_root, "trainval")


def test_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"leftImg8bit/val: no such directory"):
        Cityscapes(tmp_path, "val")
    (tmp_path / "leftImg8bit/test/berlin").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"leftImg8bit/test: no images"):
        Cityscapes(tmp_path, "test")
