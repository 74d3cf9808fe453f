"""A size for the training on images of which nobody said how large they are to be."""

import numpy as np
import pytest
from PIL import Image
from support.data_trees import CLASSES_FILE

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import open_data_set
from ladderseg_fast.engine.typical_size import typical_size

pytestmark = pytest.mark.real_use


def make_folder(root, sizes):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i, size in enumerate(sizes):
            Image.fromarray(np.full((*size, 3), 40 * i, np.uint8)).save(root / "images" / split / f"{i}.png")
            Image.fromarray(np.full(size, 7 * (i % 2), np.uint8)).save(root / "labels" / split / f"{i}.png")
    (root / "classes.toml").write_text(CLASSES_FILE)
    return root


@pytest.mark.parametrize(
    ("sizes", "expected", "median"),
    [
        ([(80, 120), (90, 100), (300, 110)], (90, 110), (90, 110)),
        ([(3000, 4000)], (627, 836), (3000, 4000)),
        ([(40, 50)], (64, 64), (40, 50)),
    ],
)
def test_median_with_a_bound(tmp_path, sizes, expected, median):
    samples = open_data_set("folder", make_folder(tmp_path / "data", sizes), "train")
    assert typical_size(samples) == (expected, median)
    assert expected[0] * expected[1] <= 512 * 1024


def test_training_on_a_folder_without_a_size(tmp_path, capsys, tiny_model):
    root, run = make_folder(tmp_path / "data", [(80, 120), (80, 120)]), tmp_path / "run"
    arguments = ["train", "--data", "folder", "--root", str(root), "--model", "tiny", "--memory", "plain"]
    assert main([*arguments, "--steps", "1", "--out", str(run)]) == 0
    output = capsys.readouterr()
    message = "data.size (--size) is not set: training at 80x120, as the median size of the images is 80x120"
    assert output.err.startswith(message)
    assert "trained tiny (plain) on folder at 80x120" in output.out
    assert "size = [80, 120]" in (run / "config.toml").read_text()
