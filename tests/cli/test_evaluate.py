"""`ladderseg evaluate` as a user runs it."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from support.cityscapes_frames import make_frames, to_classes, write_tree
from support.data_trees import random_labels, save_image, save_labels
from support.ladder_models import TINY
from support.tiny_training import register_tiny_model

from ladderseg_fast import create_model
from ladderseg_fast.cli.main import main
from ladderseg_fast.data import (
    CITYSCAPES_LABEL_SET,
    IMAGENET_NORMALISATION,
    STREET_LABELS,
    VOC_LABELS,
    open_data_set,
    read_classes_list,
)
from ladderseg_fast.data.automatic_split import held_out
from ladderseg_fast.engine import Checkpoint, save_checkpoint


@pytest.fixture(scope="module", autouse=True)
def tiny_model():
    register_tiny_model()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Files with tiny untrained models, by their classes."""
    directory = tmp_path_factory.mktemp("checkpoints")
    label_sets = {"cityscapes": CITYSCAPES_LABEL_SET, "voc": VOC_LABELS, "street": STREET_LABELS}
    for name, label_set in label_sets.items():
        torch.manual_seed(5)
        checkpoint = Checkpoint(
            step=7,
            model=TINY,
            memory="lean",
            label_set=label_set,
            size=(64, 96),
            normalisation=IMAGENET_NORMALISATION,
            config={},
            state=create_model(TINY, len(label_set)).state_dict(),
        )
        save_checkpoint(directory / f"{name}.pt", checkpoint)
    return {name: str(directory / f"{name}.pt") for name in label_sets}


@pytest.fixture(scope="module")
def frames():
    return make_frames(3)


@pytest.fixture
def cityscapes(tmp_path, frames):
    root = tmp_path / "cityscapes"
    write_tree(root, "val", frames)
    return str(write_tree(root, "test", frames))


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for stem, size in (("2007_000033", (50, 70)), ("2007_000042", (80, 40))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / f"JPEGImages/{stem}.jpg")
        labels = rng.integers(0, 22, size, dtype=np.uint8)
        labels[labels == 21] = 255
        Image.fromarray(labels).save(root / f"SegmentationClass/{stem}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n2007_000042\n")
    return str(root)


def evaluate(*arguments):
    return main(["evaluate", *map(str, arguments)])


@pytest.mark.real_use
def test_folder_without_splits_is_split_as_in_the_training(tmp_path, capsys):
    """Else images that were trained on would be evaluated."""
    root = tmp_path / "data"
    for k in range(30):
        save_image(root / f"images/i{k}.png", (64, 64), k)
        save_labels(root / f"masks/i{k}.png", random_labels([0, 1], (64, 64), k))
    (root / "classes.txt").write_text("a\nb\n")
    checkpoint = Checkpoint(
        step=7,
        model=TINY,
        memory="lean",
        label_set=read_classes_list(root / "classes.txt")[0],
        size=(64, 64),
        normalisation=IMAGENET_NORMALISATION,
        config={"data": {"kind": "folder", "val_share": 0.5, "split_seed": 1}},
        state=create_model(TINY, 2).state_dict(),
    )
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    scores = tmp_path / "scores.json"
    assert evaluate(tmp_path / "a.pt", "--data", "folder", "--root", root, "--json", scores) == 0
    names = {entry["name"] for entry in json.loads(scores.read_text())["images"]}
    assert names == held_out([f"i{k}" for k in range(30)], 0.5, 1)


def test_table_of_a_run(trained, capsys):
    assert evaluate(trained, "--data", "street") == 0
    output = capsys.readouterr()
    title, table, accuracy = output.out.rstrip("\n").split("\n\n")
    assert title.startswith(f"{trained} (step 2) on street val: 16 images, seen at 64x96, on c")
    lines = table.splitlines()
    assert lines[0].split() == ["class", "pixels", "%", "IoU", "%"]
    rows = [re.fullmatch(r"(.*?) +([\d.]+) +([\d.]+|-)", line) for line in lines[1:-2]]
    assert [row[1] for row in rows] == list(STREET_LABELS.names)
    assert re.fullmatch(r"mean +- +\d+\.\d\d", lines[-1])
    assert sum(float(row[2]) for row in rows) == pytest.approx(100, abs=0.1)
    # at the labels' own size, 256x512, not the network's
    counted = sum(int((sample.labels != 255).sum()) for sample in open_data_set("street", None, "val"))
    assert re.fullmatch(rf"pixel accuracy \d+\.\d\d% on {counted} pixels", accuracy)
    assert "evaluate 16/16" in output.err


def test_cityscapes_has_iiou_and_categories(checkpoints, cityscapes, frames, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert evaluate(checkpoints["cityscapes"], "--data", "cityscapes", "--root", cityscapes, "--json", out) == 0
    _, classes, categories, _ = capsys.readouterr().out.split("\n\n")
    assert classes.splitlines()[0].split() == ["class", "pixels", "%", "IoU", "%", "iIoU", "%"]
    assert categories.splitlines()[0].split() == ["category", "IoU", "%", "iIoU", "%"]
    record = json.loads(out.read_text())
    assert (record["step"], record["size"], record["scales"], record["flip"]) == (7, [64, 96], [1.0], False)
    assert record["cityscapes"]["mean_class_iiou"] is not None
    assert [image["name"] for image in record["images"]] == [frame.name for frame in frames]
    counted = sum(int((to_classes(frame.label_ids) != 255).sum()) for frame in frames)
    assert np.sum(record["confusion"]) == counted


def test_views(checkpoints, cityscapes, tmp_path, capsys):
    arguments = [checkpoints["cityscapes"], "--data", "cityscapes", "--root", cityscapes, "--no-iiou"]
    scores = {}
    for name, view in (
        ("trained", []),
        ("larger", ["--size", "128x160"]),
        ("own", ["--size", "own"]),
        ("many", ["--size", "own", "--scales", "0.75,1,1.25", "--flip"]),
    ):
        out = tmp_path / f"{name}.json"
        assert evaluate(*arguments, *view, "--json", out) == 0
        scores[name] = json.loads(out.read_text())["confusion"]
    assert "seen at their own size times 0.75, 1, 1.25, each also flipped" in capsys.readouterr().out
    # none is the same as another, and all count the same pixels
    assert len({json.dumps(confusion) for confusion in scores.values()}) == 4
    assert len({tuple(np.sum(confusion, axis=1)) for confusion in scores.values()}) == 1


def test_worst_images(trained, tmp_path, capsys):
    out = tmp_path / "deep" / "worst"
    assert evaluate(trained, "--data", "street", "--worst", "2", "--out", out) == 0
    assert [path.name[:2] for path in sorted(out.iterdir())] == ["1_", "2_"]
    assert capsys.readouterr().out.endswith(f"written to {out}: 2 images\n")


def test_export_of_a_split_without_labels(checkpoints, cityscapes, frames, tmp_path, capsys):
    out = tmp_path / "results"
    arguments = [checkpoints["cityscapes"], "--data", "cityscapes", "--root", cityscapes, "--split", "test"]
    assert evaluate(*arguments, "--export", "cityscapes", out) == 0
    assert capsys.readouterr().out == f"written to {out}: 3 predictions\n"
    assert sorted(path.name for path in out.iterdir()) == [f"{frame.name}_labelIds.png" for frame in frames]
    for path in out.iterdir():
        assert (to_classes(np.asarray(Image.open(path))) < 19).all()
        assert Image.open(path).size == (80, 48)


def test_export_while_scoring(checkpoints, voc, tmp_path, capsys):
    arguments = [checkpoints["voc"], "--data", "voc", "--root", voc, "--export", "voc", tmp_path / "results"]
    assert evaluate(*arguments) == 0
    folder = tmp_path / "results/results/VOC2012/Segmentation/comp6_test_cls"
    pictures = [Image.open(path) for path in sorted(folder.iterdir())]
    assert [(picture.mode, picture.size) for picture in pictures] == [("P", (70, 50)), ("P", (40, 80))]
    output = capsys.readouterr().out
    assert "mean" in output and output.endswith("2 predictions\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worst", "2"], "--worst and --out need each other"),
        (["--out", "x"], "--worst and --out need each other"),
        (["--no-iiou"], "--no-iiou is for --data cityscapes, not street"),
        (["--export", "coco", "x"], "--export writes cityscapes or voc, not coco"),
        (["--export", "voc", "x"], "the format voc is for that benchmark's classes, but these are"),
        (["--json", "none/x.json"], r"none: no such directory \(for --json\)"),
        (["--split", "test"], "the street scenes have the splits train, val, not 'test'"),
        (["--size", "32x96"], "--size must be at least 64x64, got 32x96"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
    ],
)
def test_errors_are_one_line(checkpoints, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert evaluate(checkpoints["street"], "--data", "street", *arguments) == 2
    assert re.fullmatch(rf"ladderseg: error: .*{message}.*\n", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "split test of cityscapes has no labels to evaluate against; --export writes predictions"),
        (["--json", "x.json"], "--json needs labels, but split test of cityscapes has none"),
        (["--worst", "1", "--out", "x"], "--worst needs labels, but split test of cityscapes has none"),
    ],
)
def test_split_without_labels(checkpoints, cityscapes, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    options = ["--data", "cityscapes", "--root", cityscapes, "--split", "test"]
    assert evaluate(checkpoints["cityscapes"], *options, *arguments) == 2
    assert capsys.readouterr().err == f"ladderseg: error: {message}\n"


def test_model_of_other_classes(checkpoints, cityscapes, capsys):
    assert evaluate(checkpoints["voc"], "--data", "cityscapes", "--root", cityscapes) == 2
    assert capsys.readouterr().err == (
        "ladderseg: error: the model's 21 classes are not the data set's 19; the first to differ are "
        "'background' and 'road'\n"
    )


def test_no_such_run(tmp_path, capsys):
    assert evaluate(tmp_path / "none", "--data", "street") == 2
    assert re.fullmatch(r"ladderseg: error: .*none: no such checkpoint\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scales", "1,x"], "--scales: expected a positive number, got 'x'"),
        (["--scales", "0"], "--scales: expected a positive number, got '0'"),
        (["--size", "big"], "--size: expected HEIGHTxWIDTH such as 360x480, got 'big'"),
        (["--worst", "0"], "--worst: expected a whole number from 1, got '0'"),
    ],
)
def test_arguments_are_checked(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        evaluate("run", "--data", "street", *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.real_use
def test_images_much_larger_than_those_of_the_training(trained, checkpoints, cityscapes, frames, capsys):
    # Street scenes are of 256x512, the network sees 64x96.
    assert evaluate(trained, "--data", "street") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert re.match(r"ladderseg: warning: .*: 256x512 pixels, but the network sees 64x96, .*--size own", lines[0])
    assert lines[1:] == ["ladderseg: warning: 16 of 16 images were shrunk more than twofold"]
    assert evaluate(trained, "--data", "street", "--size", "64x96") == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.real_use
def test_workers_do_not_change_scores(trained, tmp_path):
    for workers in ("0", "2"):
        assert evaluate(trained, "--data", "street", "--workers", workers, "--json", tmp_path / workers) == 0
    assert (tmp_path / "0").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.real_use
def test_memory_that_is_refused_is_one_line(trained, capsys, monkeypatch):
    monkeypatch.setattr("ladderseg_fast.engine.evaluation.data_set.label_image", lambda *a: torch.empty(1 << 50))
    assert evaluate(trained, "--data", "street") == 2
    assert re.fullmatch(r"ladderseg: error: the system refused .* of memory\n", capsys.readouterr().err)


@pytest.mark.real_use
@pytest.mark.parametrize("name", ["last.pt", "best.pt", "log.jsonl", "config.toml"])
def test_scores_in_place_of_the_run(trained, capsys, name):
    content = (trained / name).read_bytes()
    assert main(["evaluate", str(trained), "--data", "street", "--json", str(trained / name)]) == 2
    assert f"{name} of the run" in capsys.readouterr().err
    assert (trained / name).read_bytes() == content


@pytest.mark.real_use
def test_scores_in_place_of_the_model(tmp_path, capsys):
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    assert evaluate(model, "--data", "street", "--json", model) == 2
    assert f"{model} is the model to evaluate, which would be lost" in capsys.readouterr().err
    assert model.read_bytes() == b"weights"
