"""Label images that hold the classes' colours: what is decoded, and what is said of colours that mean nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.data_trees import save_labels

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import ImageFolder, LabelSet, check_pairs
from ladderseg_fast.data.label_colours import LabelColours

pytestmark = pytest.mark.real_use

SIZE = (24, 32)
#: Of the folder's classes.
GROUND, THING = (128, 64, 0), (0, 0, 255)


@pytest.fixture
def labels(folder_root: Path) -> Path:
    """One label image of the folder, to be replaced."""
    return folder_root / "labels/train/b.png"


def classes() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, SIZE).astype(np.uint8)


def coloured(values: np.ndarray) -> np.ndarray:
    return np.array([GROUND, THING], np.uint8)[values]


def read(labels: Path):
    data = ImageFolder(labels.parents[2], "train")
    check_pairs(data)
    return data[1]


def refused(labels: Path, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(str(labels)) + ": " + message) as caught:
        read(labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_become_classes(labels, mode):
    Image.fromarray(coloured(classes())).convert(mode).save(labels)
    assert np.array_equal(read(labels).labels, classes())
    assert main(["data", "check", "--data", "folder", "--root", str(labels.parents[2])]) == 0


def test_transparent_colours(labels):
    pixels = np.dstack([coloured(classes()), np.full(SIZE, 200, np.uint8)])
    Image.fromarray(pixels).save(labels)
    refused(labels, "a label image may not have transparency")


def test_ignored_colours(labels):
    file = labels.parents[2] / "classes.toml"
    file.write_text("ignore_colours = [[0, 0, 0], [1, 2, 3]]\n" + file.read_text())
    pixels = coloured(classes())
    pixels[:2], pixels[2] = 0, (1, 2, 3)
    Image.fromarray(pixels).save(labels)
    expected = classes()
    expected[:3] = 255
    assert np.array_equal(read(labels).labels, expected)


def test_unknown_colour(labels):
    pixels = coloured(classes())
    pixels[5, 7:9] = (10, 0, 250)
    pixels[20, 3] = (255, 255, 0)
    Image.fromarray(pixels).save(labels)
    refused(
        labels,
        r"the label image is RGB, and the colour \(10, 0, 250\) of 2 of its 768 pixels \(the first in row 5, "
        r"column 7\) is none of the classes'; nearest is \(0, 0, 255\), class 1, 'thing'; 1 more colour is unknown; "
        "`ignore_colours` lists those without a class",
    )


def test_values_that_were_saved_as_rgb(labels):
    Image.fromarray(classes()).convert("RGB").save(labels)
    refused(labels, r".*its three channels are the same: save it as a grey PNG if they hold the classes' values")


def test_colours_that_a_compression_blurred(labels, tmp_path):
    Image.fromarray(coloured(classes())).save(tmp_path / "a.jpg", quality=80)
    Image.open(tmp_path / "a.jpg").save(labels)
    refused(labels, r".*nearest is .*; \d+ colours are unknown, as after JPEG compression or resizing with interpol")


def test_values_that_a_compression_blurred(labels, tmp_path):
    Image.fromarray(classes() * 255).save(tmp_path / "a.jpg", quality=80)
    Image.open(tmp_path / "a.jpg").save(labels)
    refused(labels, r"labels must be 0, 7 or 255, found .*; \d+ values are unknown, as after JPEG compression")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(labels, mode):
    """Also under the name of a PNG."""
    Image.new(mode, SIZE[::-1]).save(labels, format="JPEG")
    refused(labels, "labels must be a PNG file, but this is JPEG, whose compression changes the values: export")


def test_two_classes_of_one_colour(labels):
    file = labels.parents[2] / "classes.toml"
    file.write_text(file.read_text().replace("[0, 0, 255]", "[128, 64, 0]"))
    Image.new("RGB", SIZE[::-1], GROUND).save(labels)
    refused(labels, r"the label image is RGB, but the classes 'ground' and 'thing' have the same colour, \(128, 64")


def with_palette(labels: Path, values: np.ndarray, *colours) -> None:
    picture = Image.fromarray(values)
    picture.putpalette([value for colour in colours for value in colour])
    picture.save(labels)


def test_palette_that_contradicts_the_values(labels):
    """A coloured picture whose file was made smaller: the values are in the order in which the colours came."""
    with_palette(labels, classes(), THING, GROUND)
    refused(labels, r"value 0 is class 0, 'ground', but its colour in the palette, \(0, 0, 255\), is that of class 1")


@pytest.mark.parametrize(
    "palette", [(GROUND, *[(9, 9, 9)] * 6, THING), [(k, k, k) for k in range(8)], (THING, *[(9, 9, 9)] * 7)]
)
def test_palettes_that_do_not(labels, palette):
    """Colours of no class say nothing."""
    with_palette(labels, classes() * 7, *palette)
    assert np.array_equal(read(labels).labels, classes())


def test_palette_that_is_too_short_says_nothing(labels):
    values = ImageFolder(labels.parents[2], "train").pairs[1].values
    values.check_palette(np.array([[0, 1]], np.uint8), np.array([THING], np.uint8), labels)


def test_meaning_of_a_colour():
    colours = LabelColours(LabelSet(("a", "b", "c"), ((5, 5, 5), (6, 6, 6), (6, 6, 6))), [(0, 0, 0)])
    assert [colours.meaning(colour) for colour in ((5, 5, 5), (0, 0, 0), (6, 6, 6), (7, 7, 7))] == [0, 255, None, None]


def test_ignored_values_may_have_any_colour_in_the_palette(labels):
    values = classes() * 7
    values[:3] = 255
    with_palette(labels, values, GROUND, *[(9, 9, 9)] * 6, THING, *[GROUND] * 248)
    assert (read(labels).labels[:3] == 255).all()


def test_only_the_classes_file_lets_colours_in(camvid_root):
    """Elsewhere a coloured label image is of another data set."""
    save_labels(camvid_root / "trainannot/a.png", coloured(np.zeros(SIZE, np.uint8)))
    assert main(["data", "check", "--data", "camvid", "--root", str(camvid_root)]) == 2


@pytest.mark.parametrize(
    ("ignored", "message"),
    [
        ([(1, 2, 256)], r"an ignored colour is three numbers from 0 to 255, got \(1, 2, 256\)"),
        ([(1, 2)], "an ignored colour is three numbers"),
        ([(5, 5, 5)], r"colour \(5, 5, 5\) is both that of class 'a' and ignored"),
    ],
)
def test_ignored_colours_that_cannot_be(ignored, message):
    with pytest.raises(ValueError, match=message):
        LabelColours(LabelSet(("a",), ((5, 5, 5),)), ignored)
