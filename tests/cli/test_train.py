"""`ladderseg train` as a user runs it."""

import gc
import json
import os
import re
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from support.data_trees import make_folder
from support.tiny_training import differences, signal_at

import ladderseg_fast
from ladderseg_fast.cli.arguments import model_name
from ladderseg_fast.cli.main import main
from ladderseg_fast.data import STREET_LABELS
from ladderseg_fast.engine import load_checkpoint


def make_camvid(root):
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        (root / f"{split}.txt").write_text("a\nb\nc\n")
        for seed, stem in enumerate("abc"):
            rng = np.random.default_rng(seed)
            Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(root / split / f"{stem}.png")
            Image.fromarray(rng.integers(0, 12, (70, 90), dtype=np.uint8)).save(root / f"{split}annot" / f"{stem}.png")
    return root


@pytest.mark.real_use
def test_class_that_never_occurs_is_told_at_the_start(tmp_path, capsys, short):
    """Masks of 0 and 255 with a classes file that ignores 255, as it does by default."""
    root = make_folder(tmp_path / "data", (64, 96))
    (root / "classes.toml").write_text((root / "classes.toml").read_text().replace("value = 7", "value = 1"))
    for path in root.glob("labels/*/*.png"):
        Image.fromarray(np.where(np.asarray(Image.open(path)) == 0, 0, 255).astype(np.uint8)).save(path)
    arguments = ["--data", "folder", "--root", str(root), "--out", str(tmp_path / "run")]
    assert main(["train", *short, *arguments]) == 0
    message = r"^warning: training images: no pixel of class 1 \('thing'\) in the 3 label images; ignored: 255 in 6\d\."
    assert re.search(message, capsys.readouterr().err, re.MULTILINE)


@pytest.mark.real_use
def test_validation_images_without_a_labelled_pixel_are_told_at_the_start(tmp_path, capsys, short):
    """And not at the first evaluation, an epoch later."""
    root, run = make_folder(tmp_path / "data", (64, 96)), tmp_path / "run"
    for path in root.glob("labels/val/*.png"):
        Image.fromarray(np.full((64, 96), 255, np.uint8)).save(path)
    assert main(["train", *short, "--data", "folder", "--root", str(root), "--out", str(run)]) == 2
    assert capsys.readouterr().err == (
        "ladderseg: error: the validation split cannot be used for scores: every pixel of the only label image, "
        f"{root}/labels/val/d.png, is ignored\n"
    )
    assert not run.exists()


@pytest.mark.real_use
def test_split_of_a_folder_without_splits_is_told(tmp_path, capsys, short):
    root, run = tmp_path / "data", tmp_path / "run"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for i in range(5):
        Image.fromarray(np.full((64, 96, 3), 40 * i, np.uint8)).save(root / f"images/{i}.png")
        Image.fromarray(np.full((64, 96), i % 2, np.uint8)).save(root / f"labels/{i}.png")
    (root / "classes.txt").write_text("ground\nthing\n")
    assert main(["train", *short, "--data", "folder", "--root", str(root), "--out", str(run)]) == 0
    assert capsys.readouterr().err.startswith(
        f"{root} has no splits: 4 images of 'train', 1 of 'val', chosen by their names (data.val_share = 0.1, "
        "data.split_seed = 0)\n"
    )
    assert main(["train", "--resume", str(run), "--steps", "3"]) == 0
    assert "has no splits" not in capsys.readouterr().err


def test_summary_and_files(tmp_path, capsys, short):
    run = tmp_path / "run"
    assert main(["train", *short, "--seed", "2", "--out", str(run)]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0] == "trained tiny (plain) on street at 64x96, batch 2, 2 steps, on cpu"
    assert re.fullmatch(r"mean loss \d\.\d{3} over the first step, \d\.\d{3} over the last step", lines[1])
    scores = r"mIoU \d+\.\d%, pixel accuracy \d+\.\d%; best mIoU \d+\.\d% after step 2"
    assert re.fullmatch(rf"validation on 16 images: {scores}", lines[2])
    assert re.fullmatch(r"peak memory [\d.]+ [MG]B of the process", lines[3])
    assert lines[4] == f"written to {run}: last.pt, best.pt, log.jsonl, curve.png, overlays/ (4 images)"
    line = r"^train 2/2  loss \d\.\d+  lr 1\.8e-04  [\d.]+ images/s  wait \d+%  peak [\d.]+ [MG]B  0:00 left$"
    assert re.search(line, output.err, re.MULTILINE)
    assert len(list(run.glob("overlays/*.png"))) == 4
    checkpoint = load_checkpoint(run)
    assert (checkpoint.step, checkpoint.size, checkpoint.label_set) == (2, (64, 96), STREET_LABELS)
    assert checkpoint.config["training"]["seed"] == 2


def test_camvid_by_epochs(tmp_path, short):
    root, run = make_camvid(tmp_path / "camvid"), tmp_path / "run"
    options = [option for option in short if option not in ("--steps", "2")]
    assert main(["train", "--data", "camvid", "--root", str(root), *options, "--epochs", "2", "--out", str(run)]) == 0
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    # three images, two a step: two epochs are three steps, an epoch's evaluation comes after two
    assert [(record["kind"], record.get("step")) for record in records] == [
        ("start", None),
        ("step", 1),
        ("step", 2),
        ("evaluation", 2),
        ("step", 3),
        ("evaluation", 3),
        ("end", 3),
    ]
    assert records[-2]["epoch"] == 2.0
    assert load_checkpoint(run).label_set.names[0] == "sky"


def test_lean_is_the_default_and_agrees_with_plain(tmp_path, trained, short):
    run = tmp_path / "lean"
    assert main(["train", *short[:-2], "--out", str(run)]) == 0
    assert load_checkpoint(run).memory == "lean"

    def losses(path):
        lines = (path / "log.jsonl").read_text().splitlines()
        return [record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"]

    # Only the first: Adam's first update is the sign of the gradient, and rounding decides that of a tiny one.
    assert losses(run)[0] == pytest.approx(losses(trained)[0], rel=1e-4)


@pytest.mark.real_use
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=str)
def test_configuration_in_the_directory_of_the_run_is_kept(tmp_path, capsys, short, overwrite):
    mine = {
        "config.toml": "# my notes\n[training]\nseed = 3\n",
        "log.jsonl": "my log\n",
        "report.html": "my report",
        "overlays/holiday.png": "my picture",
    }
    for name, text in mine.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    options = [*short, "--config", str(tmp_path / "config.toml"), "--out", str(tmp_path), *overwrite]
    assert main(["train", *options]) == 2
    message = f"{tmp_path} is not empty, and no training of ladderseg wrote its files"
    assert message in capsys.readouterr().err
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == mine.keys()
    assert {name: (tmp_path / name).read_text() for name in mine} == mine


@pytest.mark.real_use
def test_edited_configuration_of_a_run_is_kept(trained, tmp_path, capsys, short):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    text = (run / "config.toml").read_text() + "# my notes\n"
    (run / "config.toml").write_text(text)
    command = ["train", "--config", str(run / "config.toml"), "--out", str(run), "--overwrite"]
    assert main(command) == 2
    assert f"{run} holds config.toml, which its run did not write, or which was changed" in capsys.readouterr().err
    assert (run / "config.toml").read_text() == text
    assert load_checkpoint(run).step == 2
    # As it was written it is the run's own.
    shutil.copy(trained / "config.toml", run)
    assert main([*command, "--steps", "1"]) == 0
    assert load_checkpoint(run).step == 1


@pytest.mark.real_use
def test_run_of_release_0_1(trained, tmp_path, capsys, short):
    """It kept no list of what it wrote."""
    for name in ("run", "edited"):
        shutil.copytree(trained, tmp_path / name)
        (tmp_path / name / ".ladderseg.files").unlink()
    run, edited = tmp_path / "run", tmp_path / "edited"
    pictures = sorted(run.glob("overlays/*.png"))
    assert pictures
    options = [*short, "--seed", "9", "--set", "output.overlays=0"]
    assert main(["train", *options, "--out", str(run)]) == 2
    assert "holds a checkpoint already" in capsys.readouterr().err
    assert main(["train", "--resume", str(run)]) == 0
    (run / ".ladderseg.files").unlink()
    assert main(["train", *options, "--out", str(run), "--overwrite"]) == 0
    assert load_checkpoint(run).config["training"]["seed"] == 9
    assert not any(path.exists() for path in pictures)
    # It drew four pictures at most, so that these are not all its own; and nobody knows which.
    (edited / "overlays" / "holiday.png").touch()
    assert main(["train", *options, "--out", str(edited), "--overwrite"]) == 0
    assert len(list(edited.glob("overlays/*.png"))) == len(pictures) + 1
    shutil.copytree(trained, tmp_path / "config")
    (tmp_path / "config" / ".ladderseg.files").unlink()
    with open(tmp_path / "config" / "config.toml", "a") as file:
        file.write("# my notes\n")
    assert main(["train", *options, "--out", str(tmp_path / "config"), "--overwrite"]) == 2
    assert "holds config.toml, which its run did not write" in capsys.readouterr().err


@pytest.mark.real_use
def test_resume_of_what_is_no_run(tmp_path, capsys):
    text = '[model]\nname = "tiny"\n'
    (tmp_path / "config.toml").write_text(text)
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "no training of ladderseg wrote its files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
    assert (tmp_path / "config.toml").read_text() == text


@pytest.mark.real_use
def test_resume_of_what_has_no_checkpoint_keeps_its_configuration(trained, tmp_path, short):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for name in ("last.pt", "best.pt"):
        (run / name).unlink()
    text = (run / "config.toml").read_text().replace("steps = 2", "steps = 1  # shorter")
    (run / "config.toml").write_text(text)
    assert main(["train", "--resume", str(run)]) == 0
    assert load_checkpoint(run).step == 1
    assert (run / "config.toml").read_text() == text
    assert main(["train", "--resume", str(run)]) == 0
    assert main(["train", "--config", str(run / "config.toml"), "--out", str(run), "--overwrite"]) == 2
    assert (run / "config.toml").read_text() == text


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", ""], "output.directory must be the path of a file or directory, got ''"),
        (["--set", 'output.directory=""'], "output.directory must be the path"),
        (["--set", 'output.directory="a\\u0000b"'], r"output.directory must be the path .*, got 'a\\x00b'"),
        (["--out", "x", "--root", ""], "data.root must be the path"),
        (["--out", "x", "--weights", ""], "model.weights must be the path"),
        (["--out", "x", "--init-from", ""], "training.init_from must be the path"),
        (["--resume", ""], "--resume: expected the path of a file or directory, got ''"),
        (["--config", ""], "--config: expected the path of a file or directory, got ''"),
    ],
)
def test_empty_paths(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["train", *arguments])
    except SystemExit as error:  # argparse's way
        status = error.code
    assert status == 2
    assert re.search(message, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_refuses_to_overwrite_unless_told(trained, tmp_path, capsys, short):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = (run / "last.pt").read_bytes()
    assert main(["train", *short, "--seed", "9", "--out", str(run)]) == 2
    assert "holds a checkpoint already" in capsys.readouterr().err
    assert (run / "last.pt").read_bytes() == before
    assert main(["train", *short, "--seed", "9", "--out", str(run), "--overwrite"]) == 0
    assert load_checkpoint(run).config["training"]["seed"] == 9


@pytest.mark.parametrize("workers", ["0", "1"])
def test_damaged_image_is_one_line(tmp_path, capsys, monkeypatch, short, workers):
    root = make_camvid(tmp_path / "camvid")
    for path in (root / "train").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    arguments = ["train", "--data", "camvid", "--root", str(root), *short, "--workers", workers]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"ladderseg: error: .*train.[abc]\.png: cannot read the image \(.*\)\n", error)
    # The loader is shut down here and not within another test; torch would wait for its worker two times five seconds.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    gc.collect()


def test_interrupt_is_130_and_one_line(tmp_path, capsys, monkeypatch, short):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ladderseg_fast.cli.train.train", interrupted)
    assert main(["train", *short, "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "ladderseg: interrupted\n"


@pytest.fixture
def closed_pipe():
    """A stream whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        yield stream


@pytest.mark.real_use
def test_nobody_reads_the_progress(tmp_path, capsys, monkeypatch, short, closed_pipe):
    monkeypatch.setattr(sys, "stderr", closed_pipe)
    run = tmp_path / "run"
    assert main(["train", *short, "--out", str(run)]) == 2
    message = f"nobody reads the progress any more (Broken pipe); saved {run / 'last.pt'} at step 1 of 2"
    assert capsys.readouterr().out == f"ladderseg: error: {message}\n"
    assert load_checkpoint(run / "last.pt").step == 1


@pytest.mark.real_use
def test_nobody_reads_the_summary(tmp_path, monkeypatch, short, closed_pipe):
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    assert main(["train", *short, "--out", str(tmp_path / "run")]) == 128 + signal.SIGPIPE
    assert load_checkpoint(tmp_path / "run").step == 2


@pytest.mark.real_use
def test_nobody_reads_anything(tmp_path, monkeypatch, short, closed_pipe):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, closed_pipe)
    assert main(["train", *short, "--out", str(tmp_path / "run")]) == 2
    assert load_checkpoint(tmp_path / "run" / "last.pt").step == 1


@pytest.mark.real_use
def test_streams_that_are_closed(tmp_path, monkeypatch, short):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["train", *short, "--out", str(tmp_path / "run")]) == 0
    assert main(["train", *short, "--out", str(tmp_path / "run")]) == 2


@pytest.mark.real_use
def test_memory_that_is_refused_is_one_line(tmp_path, capsys, monkeypatch, short):
    def add_batch(self, *arguments):
        return torch.empty(1 << 50, dtype=torch.uint8)

    monkeypatch.setattr("ladderseg_fast.engine.learner.Learner.add_batch", add_batch)
    assert main(["train", *short, "--out", str(tmp_path / "run")]) == 2
    message = r"ladderseg: error: the system refused .* of memory; no checkpoint was written; a smaller training.*\n"
    assert re.fullmatch(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "camvid"], "data set 'camvid' needs a root"),
        (["--root", "x"], "data set 'street' is drawn, not read"),
        (["--aug", "x"], "data.sbd is for data of kind voc"),
        (["--data", "camvid", "--root", "nowhere"], r"nowhere: no such directory"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["--size", "64x64", "--batch", "1"], "batch 1 at 64x64 leaves one pixel"),
        (["--size", "63x96"], "data.size must be at least 64x64 for ladder_densenet121, got 63x96"),
        (
            ["--set", "training.optimiser=sgd"],
            r"--set: unknown key training\.optimiser; is training\.optimizer meant\?",
        ),
        (["--config", "none.toml"], r"none\.toml: no such configuration file"),
        (["--resume", "run0"], "--out and --resume exclude each other"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, arguments, message):
    assert main(["train", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert re.fullmatch(rf"ladderseg: error: .*{message}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64"], "--size: expected HEIGHTxWIDTH such as 360x480, got '64'"),
        (["--steps", "0"], "--steps: expected a whole number from 1, got '0'"),
        (["--steps", "2", "--epochs", "1"], "not allowed with argument --steps"),
        (["--lr", "nan"], "--lr: expected a positive number, got 'nan'"),
        (["--batch", "two"], "--batch: expected a whole number from 1, got 'two'"),
        (["--model", "vgg16"], "--model: expected one of densenet121_32x, "),
    ],
)
def test_arguments_are_checked(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main(["train", *arguments, "--out", str(tmp_path / "run")])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_settings_from_a_file(tmp_path, capsys, short):
    run = tmp_path / "run"
    (tmp_path / "run.toml").write_text(
        f"""
[model]
name = "tiny"
[data]
size = [64, 96]
[training]
epochs = 3
optimizer = "sgd"
seed = 4
[output]
directory = "{run}"
overlays = 0
"""
    )
    assert main(["train", "--config", str(tmp_path / "run.toml"), "--steps", "1", "--set", "training.seed=5"]) == 0
    training = load_checkpoint(run).config["training"]
    assert (training["optimizer"], training["steps"], training["epochs"], training["seed"]) == ("sgd", 1, None, 5)
    assert 'optimizer = "sgd"' in (run / "config.toml").read_text()


def test_resume(tmp_path, capsys, monkeypatch, short):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert main(["train", *short, "--seed", "3", "--out", str(straight)]) == 0
    with signal_at(monkeypatch, 1):
        assert main(["train", *short, "--seed", "3", "--out", str(stopped)]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"ladderseg: interrupted at step 1 of 2; saved {stopped / 'last.pt'}"
    )
    # The directory may have moved.
    moved = stopped.rename(tmp_path / "moved")
    assert main(["train", "--resume", str(moved)]) == 0
    output = capsys.readouterr()
    assert "resumed at step 1 of 2" in output.err
    assert f"written to {moved}: last.pt" in output.out
    assert differences(moved, straight) == []
    assert main(["train", "--resume", str(moved)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == output.out.splitlines()[1]


@pytest.mark.real_use
def test_resume_with_another_length(tmp_path, capsys, short):
    root, run = make_camvid(tmp_path / "camvid"), tmp_path / "run"
    options = [option for option in short if option not in ("--steps", "2")]
    assert main(["train", "--data", "camvid", "--root", str(root), *options, "--out", str(run)]) == 0
    # three images, two a step
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    output = capsys.readouterr()
    assert "resumed at step 2 of 3, formerly of 2: the learning rate follows the new length" in output.err
    assert "batch 2, 3 steps" in output.out
    assert "steps = 3\n" in (run / "config.toml").read_text()
    assert main(["train", "--resume", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--steps", "2"]) == 2
    assert "training.steps must be at least 3 when" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "4"], r"training\.batch cannot change from 2 to 4 when .* is resumed"),
        (["--config", "x.toml"], "--config and --resume exclude each other"),
        (["--overwrite"], "--overwrite and --resume exclude each other"),
    ],
)
def test_resume_with_other_settings(trained, capsys, arguments, message):
    assert main(["train", "--resume", str(trained), *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_resume_without_a_run(tmp_path, capsys):
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert re.search(r"config\.toml: no such configuration file", capsys.readouterr().err)


def test_directory_is_needed(capsys):
    assert main(["train"]) == 2
    assert "no directory for the run: --out RUN is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"),
    [("densenet169", "ladder_densenet169"), ("resnet50", "ladder_resnet50"), ("dilated_resnet50", "dilated_resnet50")],
)
def test_backbone_alone_is_its_ladder(given, meant):
    assert model_name(given) == meant


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"ladderseg {ladderseg_fast.__version__}\n"
