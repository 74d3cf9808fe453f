"""classes.txt: names alone."""

import numpy as np
import pytest

from ladderseg_fast.data import ImageFolder, read_classes_list

pytestmark = pytest.mark.real_use


def test_names_in_the_order_of_the_values(folder_root):
    (folder_root / "classes.toml").unlink()
    (folder_root / "classes.txt").write_text("\ufeff__ignore__\r\nbackground\r\n\r\ntraffic light\r\n")
    label_set, values = read_classes_list(folder_root / "classes.txt")
    assert label_set.names == ("background", "traffic light")
    assert label_set.palette == ((0, 0, 0), (128, 0, 0))
    assert values.to_classes(np.array([[0, 1, 255]], np.uint8), folder_root).tolist() == [[0, 1, 255]]
    assert ImageFolder(folder_root, "train").label_set == label_set


def test_classes_toml_has_the_last_word(folder_root):
    (folder_root / "classes.txt").write_text("a\nb\n")
    assert ImageFolder(folder_root, "train").label_set.names == ("ground", "thing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a label set needs 1 to 255 classes, got 0"),
        (b"a\nb\na\n", "two classes are called 'a'"),
        (b"\xff\xfe", "names of classes in UTF-8, one a line, are expected"),
        ("\n".join(map(str, range(256))).encode(), "a label set needs 1 to 255 classes, got 256"),
    ],
)
def test_rejects(tmp_path, content, message):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"classes\.txt: {message}"):
        read_classes_list(path)
