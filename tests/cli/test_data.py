"""`ladderseg data check` as a user runs it."""

import re

import numpy as np
import pytest
from support.data_trees import make_cityscapes, make_folder, make_sbd, make_voc, save_image, save_labels

from ladderseg_fast.cli.main import main


def check(kind, root, *options):
    return main(["data", "check", "--data", kind, "--root", str(root), *map(str, options)])


def test_report(tmp_path, capsys):
    root = make_folder(tmp_path)
    labels = np.zeros((30, 40), np.uint8)
    labels[:3] = 255
    save_image(root / "images/val/e.jpg", (30, 40))
    save_labels(root / "labels/val/e.png", labels)
    save_labels(root / "labels/val/d.png", np.zeros((24, 32), np.uint8))
    assert check("folder", root, "--split", "val") == 0
    output = capsys.readouterr()
    assert output.err == (
        "ladderseg: warning: val: no pixel of class 1 ('thing') in the 2 label images; ignored: 255 in 6.10% of the "
        "pixels; if this stands for a class, take it out of `ignore` and give the class its `value` in classes.toml\n"
    )
    # 120 of 1968 pixels are ignored
    assert output.out.splitlines() == [
        "folder val: 2 images, all can be used",
        "  24x32: 1 image",
        "  30x40: 1 image",
        "  class          pixels  images",
        "    0 ground    93.902%       2",
        "    1 thing      0.000%       0",
        "  255 ignored    6.098%       1",
        "  ignored values: 255 (6.098%)",
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_named_and_the_rest_is_counted(tmp_path, capsys, workers):
    root = make_folder(tmp_path)
    (root / "images/train/a.png").write_bytes(b"")
    (root / "labels/train/b.png").unlink()
    save_labels(root / "labels/val/d.png", np.full((24, 32), 254, np.uint8))
    assert check("folder", root, "--workers", workers) == 2
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        f"ladderseg: error: {root}/images/train/a.png: the file is empty",
        f"ladderseg: error: {root}/labels/train/b.png: no such file",
        f"ladderseg: error: {root}/labels/val/d.png: labels must be 0, 7 or 255, found 254 "
        "(row 0, column 0, and 768 such pixels in all)",
    ]
    assert "folder train: 3 images, 2 of them cannot be used\n  24x32: 2 images\n" in output.out
    assert "folder val: 1 image, 1 of them cannot be used\n  24x32: 1 image\n" in output.out


def test_many_sizes_are_summed_up(tmp_path, capsys):
    root = make_folder(tmp_path)
    for k in range(12):
        save_image(root / f"images/val/x{k}.png", (10 + k, 40 - k))
        save_labels(root / f"labels/val/x{k}.png", np.zeros((10 + k, 40 - k), np.uint8))
    assert check("folder", root, "--split", "val") == 0
    assert "  5 more sizes; 10 to 24 high, 29 to 40 wide\n" in capsys.readouterr().out


def test_cityscapes_and_its_splits(tmp_path, capsys):
    root = make_cityscapes(tmp_path)
    assert check("cityscapes", root, "--split", "train", "val", "test", "train_extra", "--coarse") == 0
    titles = re.findall(r"^cityscapes .*$", capsys.readouterr().out, re.MULTILINE)
    assert titles == [
        "cityscapes train: 4 images, all can be used",
        "cityscapes val: 2 images, all can be used",
        "cityscapes test: 1 image, all can be used",
        "cityscapes train_extra: 1 image, all can be used",
    ]


def test_voc_with_sbd(tmp_path, capsys):
    root = make_voc(tmp_path)
    assert check("voc", root, "--aug", make_sbd(tmp_path / "sbd")) == 0
    output = capsys.readouterr().out
    assert "voc train: 5 images, all can be used" in output
    assert "voc val: 2 images, all can be used" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "tain"], r"images/tain: no such directory; images has train, val"),
        (["--coarse"], "--coarse is for --data cityscapes, not folder"),
        (["--aug", "x"], "--aug is for --data voc, not folder"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, options, message):
    assert check("folder", make_folder(tmp_path), *options) == 2
    output = capsys.readouterr()
    assert re.fullmatch(rf"ladderseg: error: .*{message}\n", output.err)
    assert output.out == ""


def test_arguments_are_needed(capsys):
    for arguments in (["data"], ["data", "check"], ["data", "check", "--data", "street", "--root", "x"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "invalid choice: 'street'" in capsys.readouterr().err
