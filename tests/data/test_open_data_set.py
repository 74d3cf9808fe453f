"""Data sets by name."""

import pytest
from support.data_trees import make_sbd

from ladderseg_fast.data import (
    DATA_SETS,
    CamVid,
    Cityscapes,
    ImageFolder,
    PascalVOC,
    StreetScenes,
    check_pairs,
    open_data_set,
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("camvid", CamVid), ("cityscapes", Cityscapes), ("folder", ImageFolder), ("voc", PascalVOC)],
)
def test_kinds(request, kind, expected):
    root = request.getfixturevalue(f"{kind}_root")
    for split in ("train", "val"):
        data = open_data_set(kind, root, split)
        assert type(data) is expected
        assert data.files(0)[0].is_file()
        assert data[0].name == data.name(0)
        assert data.labelled


def test_options(cityscapes_root, voc_root, tmp_path):
    assert "gtCoarse" in str(open_data_set("cityscapes", cityscapes_root, "train", coarse=True).files(0)[1])
    assert len(open_data_set("voc", voc_root, "train", sbd=make_sbd(tmp_path / "sbd"))) == 5


def test_street_scenes():
    train, val = open_data_set("street", None, "train", size=(32, 48)), open_data_set("street", None, "val", count=3)
    assert isinstance(train, StreetScenes)
    assert (len(train), train.seed, train.size) == (256, 0, (32, 48))
    assert (len(val), val.seed, val.size) == (3, 1, (256, 512))
    assert train.name(0) == train[0].name
    assert train.files(0) == ()
    check_pairs(train)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("kitti", ".", "train"), {}, f"unknown data set 'kitti'; known are {', '.join(DATA_SETS)}"),
        (("voc", None, "train"), {}, "data set 'voc' needs a root"),
        (("voc", ".", "train"), {"coarse": True}, "data set 'voc' has no option 'coarse'; it has sbd"),
        (("camvid", ".", "train"), {"sbd": "x"}, "data set 'camvid' has no option 'sbd'; it has none"),
        (("street", ".", "train"), {}, "data set 'street' is drawn, not read: it has no root"),
        (("street", None, "test"), {}, "the street scenes have the splits train, val, not 'test'"),
        (("street", None, "val"), {"seed": 1}, "data set 'street' has no option 'seed'; it has size, count"),
    ],
)
def test_rejects(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        open_data_set(*arguments, **options)
