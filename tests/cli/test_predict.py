"""`ladderseg predict` as a user runs it."""

import io
import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ladderseg_fast.cli.main import main
from ladderseg_fast.cuda.images import KernelsUnavailableError
from ladderseg_fast.data import STREET_LABELS, StreetScenes
from ladderseg_fast.engine.predict import _label


@pytest.fixture
def images(tmp_path):
    """Two street scenes of different sizes and formats."""
    paths = [tmp_path / "one.png", tmp_path / "two.jpg"]
    for path, size in zip(paths, ((64, 96), (111, 77)), strict=True):
        Image.fromarray(StreetScenes(1, size)[0].image).save(path)
    return paths


def predict(run, images, out, *options):
    return main(["predict", str(run), *map(str, images), "--out", str(out), *options])


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_writes_labels_and_overlays(trained, images, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert predict(trained, images, out, "--write", "labels,overlays") == 0
    assert names(out) == ["legend.png", "one_labels.png", "one_overlay.png", "two_labels.png", "two_overlay.png"]
    for path in images:
        size = Image.open(path).size
        labels = Image.open(out / f"{path.stem}_labels.png")
        assert (labels.mode, labels.size) == ("P", size)
        assert np.asarray(labels).max() < len(STREET_LABELS)
        assert tuple(labels.getpalette()[:3]) == STREET_LABELS.palette[0]
        overlay = Image.open(out / f"{path.stem}_overlay.png")
        assert (overlay.mode, overlay.size) == ("RGB", size)
    output = capsys.readouterr().out.splitlines()
    assert output[0] == f"{images[0]}: {out / 'one_labels.png'}, {out / 'one_overlay.png'}"
    assert re.fullmatch(r"labelled 2 of 2 images on (cpu|cuda)", output[2])


@pytest.mark.real_use
def test_overlays_are_written_on_request_only(trained, images, tmp_path):
    assert predict(trained, images, tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["one_labels.png", "two_labels.png"]


@pytest.mark.real_use
def test_legend_beside_overlays(trained, images, tmp_path, capsys):
    assert predict(trained, images, tmp_path / "out", "--write", "labels,overlays") == 0
    assert "legend.png" in names(tmp_path / "out")
    mine = tmp_path / "out" / "legend.png"
    mine.write_bytes(images[0].read_bytes())
    assert predict(trained, [mine], tmp_path / "out", "--write", "labels,overlays") == 2
    assert "would overwrite an input image" in capsys.readouterr().err
    assert mine.read_bytes() == images[0].read_bytes()


def test_checkpoint_by_its_name(trained, images, tmp_path):
    for checkpoint, name in ((trained, "run"), (trained / "last.pt", "file")):
        assert predict(checkpoint, images[:1], tmp_path / name) == 0
    # The only evaluation is that of the last step, so the best weights are the last.
    assert (tmp_path / "run" / "one_labels.png").read_bytes() == (tmp_path / "file" / "one_labels.png").read_bytes()


def test_unusable_images_are_reported_and_the_others_done(trained, images, tmp_path, capsys):
    whole = images[0].read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (200, 63)).save(tmp_path / "low.png")
    bad = [tmp_path / name for name in ("cut.png", "text.png", "low.png", "none.png")]
    out = tmp_path / "out"
    assert predict(trained, [*bad, *images], out) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    for line, pattern in zip(
        errors,
        (
            r"cut\.png: cannot read the image",
            r"text\.png: not an image",
            r"low\.png: image is 63x200, at least 64x64 \(HxW\) is needed",
            r"none\.png: no such file",
        ),
        strict=True,
    ):
        assert re.match(rf"ladderseg: error: .*{pattern}", line)
    assert names(out) == ["one_labels.png", "two_labels.png"]


def test_existing_results_are_replaced(trained, images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one_labels.png").write_bytes(b"old")
    assert predict(trained, images[:1], out) == 0
    assert np.asarray(Image.open(out / "one_labels.png")).shape == (64, 96)


def test_interrupted_writing_keeps_the_existing_result(trained, images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one_labels.png").write_bytes(b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ladderseg_fast.atomic_file.os.fsync", fail)
    assert predict(trained, images, out) == 2
    assert (out / "one_labels.png").read_bytes() == b"old"
    assert names(out) == ["one_labels.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"run: no such checkpoint"),
        (b"", r"last\.pt: not a checkpoint, or a damaged one \(EOFError\)"),
        (b"PK\x03\x04 and so on", r"last\.pt: not a checkpoint, or a damaged one"),
    ],
)
def test_bad_run(images, tmp_path, capsys, content, message):
    run = tmp_path / "run"
    if content is not None:
        run.mkdir()
        (run / "last.pt").write_bytes(content)
    assert predict(run, images, tmp_path / "out") == 2
    assert re.fullmatch(rf"ladderseg: error: .*{message}\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name(trained, images, tmp_path, capsys):
    twin = tmp_path / "other" / "one.png"
    assert predict(trained, [images[0], twin], tmp_path / "out") == 2
    assert "one.png and " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_result_that_would_overwrite_an_input(trained, images, tmp_path, capsys):
    other = tmp_path / "one_labels.png"
    Image.open(images[0]).save(other)
    before = other.read_bytes()
    assert predict(trained, [images[0], other], tmp_path) == 2
    assert "would overwrite an input image" in capsys.readouterr().err
    assert other.read_bytes() == before


@pytest.fixture
def directory(tmp_path, images):
    """Images in a directory and its subdirectories, among other files."""
    top = tmp_path / "photos"
    for path in ("one.png", "one.jpg", "deep/one.png", "deep/er/two.PNG"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        Image.open(images[0]).save(top / path)
    (top / "notes.txt").write_text("no image")
    return top


@pytest.mark.real_use
def test_directory(trained, directory, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(trained, [directory], out) == 0
    assert names(out) == ["one.jpg_labels.png", "one.png_labels.png"]
    assert "1 files without an image's ending are left out" in capsys.readouterr().err
    assert predict(trained, [directory], out, "-r") == 0
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert found == [
        *("deep/er/two_labels.png", "deep/one_labels.png"),
        *("one.jpg_labels.png", "one.png_labels.png"),
    ]


@pytest.mark.real_use
def test_progress_bar_on_a_terminal(trained, directory, tmp_path, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert predict(trained, [directory], tmp_path / "out", "-r") == 0
    assert "predict [#####...............] 1/4" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.real_use
def test_what_cannot_be_read_or_written_does_not_stop_the_others(trained, images, tmp_path, capsys):
    loop, long = tmp_path / "loop.png", tmp_path / f"{'x' * 246}.png"
    loop.symlink_to(loop)
    os.symlink(images[0], long)
    out = tmp_path / "out"
    assert predict(trained, [loop, long, tmp_path / ("y" * 300), *images], out) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "loop.png" in errors[0] and "Too many levels of symbolic links" in errors[0]
    assert long.name in errors[1] and "File name too long" in errors[1]
    assert "File name too long" in errors[2]
    assert names(out) == ["one_labels.png", "two_labels.png"]


@pytest.mark.real_use
def test_name_that_the_terminal_cannot_encode(trained, images, tmp_path, monkeypatch):
    name = os.fsdecode(b"\xff.jpg")
    Image.open(images[0]).save(tmp_path / name, format="JPEG")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert predict(trained, [tmp_path / name, *images], tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["one_labels.png", "two_labels.png", os.fsdecode(b"\xff_labels.png")]
    stdout.seek(0)
    assert stdout.readline().startswith(f"{tmp_path}/\\udcff.jpg: ")


def refuse_memory_for(height, monkeypatch):
    """Lets the network ask for too much memory if one of its images has `height` rows."""

    def label(model, images, probabilities):
        if any(len(image.pixels) == height for image in images):
            torch.empty(1 << 50)
        return _label(model, images, probabilities)

    monkeypatch.setattr("ladderseg_fast.engine.predict._label", label)


@pytest.mark.real_use
def test_memory_that_is_refused_for_one_image(trained, images, tmp_path, capsys, monkeypatch):
    """As for one of 10000x10000 at its own size; the others are still done."""
    refuse_memory_for(64, monkeypatch)
    assert predict(trained, images, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"ladderseg: error: {images[0]}: the system refused .* of memory\n", error)
    assert names(tmp_path / "out") == ["two_labels.png"]


@pytest.mark.real_use
def test_large_images_are_not_shrunk_without_a_word(trained, tmp_path, capsys):
    paths = [tmp_path / f"{name}.png" for name in ("large", "larger")]
    Image.fromarray(StreetScenes(1, (400, 400))[0].image).save(paths[0])
    Image.fromarray(StreetScenes(1, (400, 800))[0].image).save(paths[1])
    assert predict(trained, paths, tmp_path / "seen") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0].startswith(f"ladderseg: warning: {paths[0]}: 400x400 pixels, but the network sees 78x78")
    assert warnings[1:] == ["ladderseg: warning: 2 of 2 images were shrunk more than twofold"]
    results = {"seen": (tmp_path / "seen" / "large_labels.png").read_bytes()}
    for size in ("own", "400x400", "64x80"):
        assert predict(trained, paths, tmp_path / size, "--size", size) == 0
        assert capsys.readouterr().err == ""
        results[size] = (tmp_path / size / "large_labels.png").read_bytes()
    assert results["own"] == results["400x400"]
    assert len(set(results.values())) == 3
    assert predict(trained, paths, tmp_path / "small", "--size", "63x80") == 2
    assert "--size must be at least 64x64, got 63x80" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


@pytest.mark.real_use
def test_gpu_without_kernels_is_one_line(trained, images, tmp_path, capsys, monkeypatch):
    """The GPU is the default, where there is one."""

    def label(*arguments):
        raise KernelsUnavailableError("no CUDA kernels bn_relu_float32 for a device of compute capability 9.0")

    monkeypatch.setattr("ladderseg_fast.engine.predict._label", label)
    assert predict(trained, images, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"ladderseg: error: no CUDA kernels .* 9\.0; --device cpu does without them\n", error)
