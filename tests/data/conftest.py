"""Data sets made for the test, one in each layout."""

from pathlib import Path

import pytest
from support import data_trees
from support.data_trees import random_labels, save_image, save_labels


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    """Three pairs of 24x32 in train and one in val; each annotation holds all of 0 to 11."""
    root = tmp_path / "camvid"
    for split, stems in (("train", ("a", "b", "c")), ("val", ("d",))):
        for seed, stem in enumerate(stems):
            save_image(root / split / f"{stem}.png", (24, 32), seed)
            save_labels(root / f"{split}annot" / f"{stem}.png", random_labels(list(range(12)), (24, 32), seed))
        (root / f"{split}.txt").write_text("\n".join(stems) + "\n")
    return root


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    return data_trees.make_folder(tmp_path / "folder")


@pytest.fixture
def cityscapes_root(tmp_path: Path) -> Path:
    return data_trees.make_cityscapes(tmp_path / "cityscapes")


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    return data_trees.make_voc(tmp_path / "voc")
