"""Opening the splits of a training: what is wrong with them is known before the first step."""

from pathlib import Path

import pytest
from support.data_trees import make_cityscapes, make_folder

from ladderseg_fast.engine.config import DataConfig
from ladderseg_fast.engine.loaders import open_splits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


def test_splits(root: Path) -> None:
    train, val = open_splits(DataConfig(kind="folder", root=str(root), size=(64, 64)))
    assert (len(train), len(val)) == (3, 1)


@pytest.mark.parametrize("split", ["train", "val"])
def test_empty_file(root: Path, split: str) -> None:
    path = next((root / "images" / split).iterdir())
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{path}: the file is empty"):
        open_splits(DataConfig(kind="folder", root=str(root), size=(64, 64)))


def test_all_broken_files_are_counted(root: Path) -> None:
    for name in ("a", "b"):
        (root / "labels" / "train" / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"^2 of 3 samples .*:\n.*a\.png: .*\n.*b\.png: .*\n`ladderseg data check"):
        open_splits(DataConfig(kind="folder", root=str(root), size=(64, 64)))


def test_split_without_labels(tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "data")
    with pytest.raises(ValueError, match="data.train_split must be a split with labels, 'test' has none"):
        open_splits(DataConfig(kind="cityscapes", root=str(root), size=(64, 64), train_split="test"))
