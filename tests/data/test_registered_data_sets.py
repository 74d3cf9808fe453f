"""Every kind of data set does what its declaration says; a new one is one declaration, here that of a toy.

The files of the kind NAME are made by the fixture NAME_root.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image
from support.data_trees import save_image, save_labels
from support.ladder_models import TINY
from support.tiny_training import register_tiny_model

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import (
    DATA_SETS,
    IGNORE_INDEX,
    RESULT_FORMATS,
    DataSetKind,
    FilePair,
    FilePairs,
    LabelSet,
    LabelValues,
    Option,
    ResultFormat,
    open_data_set,
    register_data_set,
)
from ladderseg_fast.engine.config_tables import Layer, build_config, config_text, parse_assignments, read_config_file


class Toy(FilePairs):
    """`root`/SPLIT_NAME.png with SPLIT_NAME_labels.png, of `most` images at most; and those of `extra`."""

    label_set = LabelSet(("left", "right"), ((255, 0, 0), (0, 0, 255)))

    def __init__(self, root: str, split: str, most: int = 3, extra: str | None = None, mirrored: bool = False) -> None:
        if split not in TOY.splits:
            raise ValueError(f"Toy has no split {split!r}")
        folders = [Path(root)] if extra is None else [Path(root), Path(extra)]
        labels = [path for folder in folders for path in sorted(folder.glob(f"{split}_*_labels.png"))][:most]
        images = [path.with_name(path.name.replace("_labels", "")) for path in labels]
        values = LabelValues({0: int(mirrored), 1: int(not mirrored)})
        super().__init__([FilePair(image.stem, image, path, values) for image, path in zip(images, labels)])


def check_most(most: int) -> None:
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")


TOY = DataSetKind(
    "toy",
    Toy,
    options=(
        Option("most", int, 3, "--most", "toy: how many images", check_most, kept=True),
        Option("extra", Path, None, "--extra", "toy: images of DIR, too"),
        Option("mirrored", bool, False, "--mirrored", "toy: left is right"),
    ),
    splits=("train", "val"),
    label_set=Toy.label_set,
    default_size=(64, 96),
    result_format=ResultFormat(lambda name: PurePosixPath(f"{name}.png"), Image.fromarray),
)


@pytest.fixture
def toy_root(tmp_path: Path) -> Iterator[Path]:
    """Six images, three in each split; the kind is known as long as the test runs."""
    labels = np.zeros((64, 96), np.uint8)
    labels[:, 48:] = 1
    for split in ("train", "val"):
        for k in range(3):
            save_image(tmp_path / f"toy/{split}_{k}.png", (64, 96), seed=k)
            save_labels(tmp_path / f"toy/{split}_{k}_labels.png", labels)
    register_data_set(TOY)
    yield tmp_path / "toy"
    del DATA_SETS["toy"], RESULT_FORMATS["toy"]


@pytest.fixture(params=[*DATA_SETS, "toy"])
def kind_and_root(request: pytest.FixtureRequest) -> tuple[DataSetKind, Path | None]:
    """A kind of data set, and the root of one."""
    drawn = request.param in DATA_SETS and DATA_SETS[request.param].drawn
    root = None if drawn else request.getfixturevalue(f"{request.param}_root")
    return DATA_SETS[request.param], root


def test_splits_and_classes(kind_and_root):
    kind, root = kind_and_root
    for split in kind.splits or ("train", "val"):
        data = open_data_set(kind.name, root, split, **{option.name: option.default for option in kind.options})
        assert isinstance(data, FilePairs) != kind.drawn
        assert kind.label_set in (None, data.label_set)
        assert len({data.name(index) for index in range(len(data))}) == len(data)
        sample = data[0]
        assert sample.name == data.name(0)
        assert (sample.image.dtype, sample.labels.dtype) == (np.uint8, np.uint8)
        assert sample.image.shape == (*sample.labels.shape, 3)
        assert set(np.unique(sample.labels)) <= {*range(len(data.label_set)), IGNORE_INDEX}
        assert data.labelled == bool((sample.labels != IGNORE_INDEX).any())
        assert bool(data.files(0)) != kind.drawn
    if kind.instance_ids:
        assert open_data_set(kind.name, root, "val").instances(0).is_file()
    with pytest.raises((ValueError, OSError)):
        open_data_set(kind.name, root, "no such split")


def test_root_and_options_are_checked(kind_and_root):
    kind, root = kind_and_root
    with pytest.raises(ValueError, match=f"data set '{kind.name}' has no option 'nonsense'; it has "):
        open_data_set(kind.name, root, "train", nonsense=1)
    with pytest.raises(ValueError, match=f"data set '{kind.name}' (needs a root|is drawn, not read: it has no root)"):
        open_data_set(kind.name, "somewhere" if kind.drawn else None, "train")


def test_configuration(tmp_path, kind_and_root):
    """The splits that a configuration opens, and the same configuration from the file it was written to."""
    kind, root = kind_and_root
    config = build_config([Layer("test", {"data.kind": kind.name, "data.root": root and str(root)})])
    assert config.data.options == {option.name: option.default for option in kind.options}
    assert config.data.data_set is kind
    assert config.data.open("train").name(0) == open_data_set(kind.name, root, "train").name(0)
    if kind.default_size is not None:
        assert config.resolved(images=3).data.size == kind.default_size
    file = tmp_path / "config.toml"
    file.write_text(config_text(config, None), encoding="utf-8")
    assert build_config([read_config_file(file)]) == config


def test_data_check(capsys, kind_and_root):
    kind, root = kind_and_root
    if kind.drawn:
        pytest.skip("nothing to read")
    assert main(["data", "check", "--data", kind.name, "--root", str(root)]) == 0
    images = len(open_data_set(kind.name, root, "train"))
    assert f"{kind.name} train: {images} images, all can be used" in capsys.readouterr().out


def test_results(kind_and_root):
    kind, _ = kind_and_root
    if kind.result_format is None:
        pytest.skip("no benchmark")
    picture = RESULT_FORMATS[kind.name].image(np.zeros((4, 6), np.uint8))
    assert picture.size == (6, 4)
    assert kind.result_format.path("NAME_1_2").name.startswith("NAME_1_2")
    assert kind.label_set is not None, "Export compares the classes"


def test_toy_is_configured(toy_root, tmp_path):
    assignments = ["data.kind=toy", f"data.root={toy_root}", "data.most=2", "data.extra=elsewhere"]
    config = build_config([parse_assignments(assignments)])
    assert config.data.options == {"most": 2, "extra": "elsewhere", "mirrored": False}
    assert config.resolved(images=2).data.options["extra"] == str(Path("elsewhere").absolute())
    for assignment, message in (
        ("data.most=0", "data.most must be at least 1, got 0"),
        ("data.most=two", 'data.most must be a whole number, got "two"'),
        ("data.extra=''", "data.extra must be the path of a file or directory"),
        ("data.kind=camvid", "data.most is for data of kind toy, not camvid"),
        ("data.mots=2", r"unknown key data.mots; is data.most meant\?"),
    ):
        with pytest.raises(ValueError, match=message):
            build_config([parse_assignments([*assignments, assignment])])


def test_toy_is_checked(toy_root, tmp_path, capsys):
    save_image(tmp_path / "more/train_9.png", (64, 96))
    save_labels(tmp_path / "more/train_9_labels.png", np.ones((64, 96), np.uint8))
    check = ["data", "check", "--data", "toy", "--root", str(toy_root)]
    assert main([*check, "--most", "9", "--extra", str(tmp_path / "more")]) == 0
    assert "toy train: 4 images, all can be used\n" in capsys.readouterr().out
    assert main([*check, "--coarse"]) == 2
    assert capsys.readouterr().err == "ladderseg: error: --coarse is for --data cityscapes, not toy\n"
    with pytest.raises(SystemExit):
        main(["data", "check", "--help"])
    assert "toy: images of DIR, too" in capsys.readouterr().out


def test_toy_is_trained_on_resumed_and_evaluated(toy_root, tmp_path, capsys):
    register_tiny_model()
    run = tmp_path / "run"
    arguments = ["--data", "toy", "--root", str(toy_root), "--most", "2", "--mirrored"]
    assert main(["train", "--model", TINY, "--steps", "2", "--device", "cpu", *arguments, "--out", str(run)]) == 0
    assert "trained tiny (lean) on toy at 64x96, batch 2, 2 steps" in capsys.readouterr().out
    (tmp_path / "more").mkdir()
    assert main(["train", "--resume", str(run), "--steps", "3", "--extra", str(tmp_path / "more")]) == 0
    assert main(["train", "--resume", str(run), "--steps", "4", "--most", "1"]) == 2
    assert "data.most cannot change from 2 to 1" in capsys.readouterr().err
    results = tmp_path / "results"
    evaluate = ["evaluate", str(run), "--data", "toy", "--root", str(toy_root), "--workers", "0"]
    assert main([*evaluate, "--device", "cpu", "--export", "toy", str(results)]) == 0
    # As many images as the training was told.
    assert {path.name for path in results.iterdir()} == {"val_0.png", "val_1.png"}


def test_names_are_taken_once(toy_root):
    with pytest.raises(ValueError, match="there is a data set 'toy' already"):
        register_data_set(TOY)
    with pytest.raises(ValueError, match="data set 'other' declares the option 'most' unlike another data set"):
        register_data_set(DataSetKind("other", Toy, options=(Option("most", int, 4),)))


def test_an_option_cannot_hide_a_setting(monkeypatch):
    kind = DataSetKind("other", Toy, options=(Option("size", int, 4),))
    monkeypatch.setitem(DATA_SETS, "other", kind)
    with pytest.raises(ValueError, match="data.size is a setting of all data sets and cannot be an option of other"):
        build_config([])
