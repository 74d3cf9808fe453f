"""`ladderseg predict` as a user runs it."""

import re

import numpy as np
import pytest
from PIL import Image

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import STREET_LABELS, StreetScenes


@pytest.fixture
def images(tmp_path):
    """Two street scenes of different sizes and formats."""
    paths = [tmp_path / "one.png", tmp_path / "two.jpg"]
    for path, size in zip(paths, ((64, 96), (111, 77)), strict=True):
        Image.fromarray(StreetScenes(1, size)[0].image).save(path)
    return paths


def predict(run, images, out):
    return main(["predict", str(run), *map(str, images), "--out", str(out)])


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_writes_labels_and_overlays(trained, images, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert predict(trained, images, out) == 0
    assert names(out) == ["one_labels.png", "one_overlay.png", "two_labels.png", "two_overlay.png"]
    for path in images:
        size = Image.open(path).size
        labels = Image.open(out / f"{path.stem}_labels.png")
        assert (labels.mode, labels.size) == ("P", size)
        assert np.asarray(labels).max() < len(STREET_LABELS)
        assert tuple(labels.getpalette()[:3]) == STREET_LABELS.palette[0]
        overlay = Image.open(out / f"{path.stem}_overlay.png")
        assert (overlay.mode, overlay.size) == ("RGB", size)
    assert capsys.readouterr().out.splitlines()[0] == (
        f"{images[0]}: {out / 'one_labels.png'}, {out / 'one_overlay.png'}"
    )


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
    assert names(out) == ["one_labels.png", "one_overlay.png", "two_labels.png", "two_overlay.png"]


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
        (b"", r"last\.pt: not a checkpoint, or a truncated one"),
        (b"PK\x03\x04 and so on", r"last\.pt: not a checkpoint, or a truncated one"),
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
    twin = tmp_path / "other" / "one.jpg"
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
