"""Folders of images with a classes file."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.data_trees import CLASSES_FILE, random_labels, save_image, save_labels

from ladderseg_fast.data import ImageFolder, LabelSet, check_pairs, read_classes

SIZE = (24, 32)


def test_reads_pairs(folder_root):
    data = ImageFolder(folder_root, "train")
    check_pairs(data)
    assert [data.name(i) for i in range(len(data))] == ["a", "b", "c"]
    assert data.label_set == LabelSet(("ground", "thing"), ((128, 64, 0), (0, 0, 255)))
    values = random_labels([0, 7, 255], SIZE, seed=1)
    assert np.array_equal(data[1].labels, np.select([values == 0, values == 7], [0, 1], 255))
    assert data.files(1) == (folder_root / "images/train/b.png", folder_root / "labels/train/b.png")


@pytest.mark.parametrize("name", ["e.jpg", "e.JPEG", "e.tif", "e.webp", "e.bmp"])
def test_formats(folder_root, name):
    save_image(folder_root / "images/val" / name, SIZE)
    save_labels(folder_root / "labels/val/e.png", np.zeros(SIZE, np.uint8))
    data = ImageFolder(folder_root, "val")
    check_pairs(data)
    assert data[1].image.shape == (*SIZE, 3)


def test_hidden_files_do_not_matter(folder_root):
    (folder_root / "images/val/.DS_Store").write_bytes(b"")
    assert len(ImageFolder(folder_root, "val")) == 1


@pytest.mark.parametrize("name", ["images/val/notes.txt", "labels/val/e.jpg", "images/val/more/"])
def test_unexpected_things(folder_root, name):
    path = folder_root / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{path}: only files that end in .*png.* are expected here"):
        ImageFolder(folder_root, "val")


def test_two_images_of_one_name(folder_root):
    save_image(folder_root / "images/val/d.jpg", SIZE)
    with pytest.raises(ValueError, match=r"val/d\.jpg and d\.png would share one label image"):
        ImageFolder(folder_root, "val")


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_missing_split(folder_root, folder):
    (folder_root / folder / "val").rename(folder_root / folder / "test")
    with pytest.raises(FileNotFoundError, match=rf"{folder}/val: no such directory"):
        ImageFolder(folder_root, "val")


def test_missing_classes_file(folder_root):
    (folder_root / "classes.toml").unlink()
    with pytest.raises(FileNotFoundError, match=r"classes\.toml: no such file \(names, colours and values"):
        ImageFolder(folder_root, "val")


def test_binary_masks(tmp_path):
    """0 and 255 as two classes, and nothing ignored."""
    path = tmp_path / "classes.toml"
    path.write_text(
        'ignore = []\n[[classes]]\nname = "no"\ncolour = [0, 0, 0]\n'
        '[[classes]]\nname = "yes"\ncolour = [255, 255, 255]\nvalue = 255\n'
    )
    label_set, values = read_classes(path)
    assert label_set.names == ("no", "yes")
    assert values.to_classes(np.array([[0, 255]], np.uint8), path).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r"labels must be 0 or 255, found 1"):
        values.to_classes(np.array([[0, 1]], np.uint8), path)


def test_classes_file_of_the_documentation(tmp_path):
    text = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    path = tmp_path / "classes.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    label_set, values = read_classes(path)
    assert label_set.names == ("road", "car")
    assert values.to_classes(np.array([[0, 26, 255]], np.uint8), path).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[255]", "255", "ignore must be a list of whole numbers, got 255"),
        ("[255]", "[true]", "ignore must be a list of whole numbers"),
        ("[255]", "[256]", "a label value must be 0 to 255, got 256"),
        ("[255]", "[7]", "label value 7 is both a class and ignored"),
        ("ignore", "ignore_colours = 3\nignore", "ignore_colours must be a list of colours, got 3"),
        ("ignore", "ignore_colours = [[0, 0]]\nignore", "an ignored colour is three numbers from 0 to 255"),
        ("ignore", "ignored", "the file has an unknown key 'ignored'; known are classes, ignore, ignore_colours"),
        ("[[classes]]", "[[class]]", "the file has no key 'classes'"),
        ("value = 7", "value = 0", "classes 0 and 1 share the value 0"),
        ("value = 7", "value = 7.0", "class 1: value must be a whole number, got 7.0"),
        ("value = 7", "val = 7", "class 1 has an unknown key 'val'; known are colour, name, value"),
        ("value = 7", "value = -1", "a label value must be 0 to 255, got -1"),
        ('"thing"', '"ground"', "two classes are called 'ground'"),
        ('"thing"', "3", "class 1: name must be a text, got 3"),
        ("[0, 0, 255]", '"blue"', "class 1: colour must be three numbers from 0 to 255, got 'blue'"),
        ("[0, 0, 255]", "[0, 255]", r"a colour is three numbers from 0 to 255, got \(0, 255\)"),
        ("colour = [0, 0, 255]", "", "class 1 has no key 'colour'"),
        ('"thing"', "thing", "not TOML"),
    ],
)
def test_classes_file_rejects(tmp_path, old, new, message):
    path = tmp_path / "classes.toml"
    path.write_text(CLASSES_FILE.replace(old, new))
    assert path.read_text() != CLASSES_FILE
    with pytest.raises(ValueError, match=rf"classes\.toml: {message}"):
        read_classes(path)


@pytest.mark.parametrize("content", ["classes = 3", "classes = [1, 2]", "classes = []"])
def test_classes_that_are_none(tmp_path, content):
    path = tmp_path / "classes.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"classes\.toml: (classes must be tables|a label set needs 1 to 255 classes)"):
        read_classes(path)
