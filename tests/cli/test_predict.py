"""`ladderseg predict` as a user runs it."""

import builtins
import io
import os
import re
import signal
import struct
import sys
import threading
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.videos import grey_frames, write_video

from ladderseg_fast.cli.main import CLOSED_PIPE, main
from ladderseg_fast.cli.network_size import ShrunkImages
from ladderseg_fast.cli.predict import _note_left_out
from ladderseg_fast.cuda.images import KernelsUnavailableError
from ladderseg_fast.data import STREET_LABELS, StreetScenes
from ladderseg_fast.engine.predict import _label
from ladderseg_fast.engine.prediction_files import FILE_KINDS


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
        if any(image.size[0] == height for image in images):
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


def test_everything_that_can_be_written(trained, images, tmp_path, capsys):
    pytest.importorskip("tifffile", reason="TIFFs are written by tifffile, an optional dependency")
    out = tmp_path / "out"
    assert predict(trained, images, out, "--write", ",".join(FILE_KINDS), "--batch", "2") == 0
    endings = [kind.ending for kind in FILE_KINDS.values()]
    assert names(out) == sorted(["legend.png", *(name + ending for name in ("one", "two") for ending in endings)])
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"{images[0]}: " + ", ".join(str(out / f"one{ending}") for ending in endings)
    labels = np.asarray(Image.open(out / "two_labels.png"))
    shares = np.load(out / "two_probabilities.npz")["probabilities"]
    assert shares.shape == (len(STREET_LABELS), *labels.shape)
    assert np.abs(shares.astype(float).sum(0) - 1).max() < 0.01
    assert np.mean(shares.argmax(0) == labels) > 0.99
    assert predict(trained, images, tmp_path / "alone", "--write", "colours,colours") == 0
    assert names(tmp_path / "alone") == ["legend.png", "one_colours.png", "two_colours.png"]


def test_what_cannot_be_written(trained, images, tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        predict(trained, images, tmp_path / "out", "--write", "labels,lables")
    assert "expected some of labels, overlays, colours," in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert predict(trained, images, tmp_path / "out", "--write", "probabilities-tiff") == 2
    assert 'pip install "ladderseg_fast[tiff]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_that_are_there_are_left_alone(trained, images, tmp_path, capsys):
    """As after an interruption: an image counts as done if all that is asked for is there."""
    pytest.importorskip("av", reason="videos are read by PyAV, an optional dependency")
    write_video(tmp_path / "film.avi", [StreetScenes(3, (64, 96))[i].image for i in range(3)])
    out, inputs = tmp_path / "out", [*images, tmp_path / "film.avi"]
    both = ("--write", "labels,colours")
    assert predict(trained, inputs, out, *both) == 0
    for name in ("two_colours.png", "film_000001_labels.png"):
        (out / name).unlink()
    (out / "one_labels.png").write_bytes(b"old")
    capsys.readouterr()
    assert predict(trained, inputs, out, *both, "--skip-existing") == 0
    output = capsys.readouterr()
    assert output.err == "ladderseg: 1 images have their results already\n"
    assert output.out.splitlines()[-1] == "labelled 2 of 2 images on cpu"
    assert (out / "one_labels.png").read_bytes() == b"old"
    assert len(names(out)) == 2 * 5 + 1
    assert predict(trained, images, out, *both, "--skip-existing") == 0


def test_list_on_the_standard_input(trained, images, tmp_path, capsys, monkeypatch):
    listed = "".join(f"{path}\n" for path in (images[1], tmp_path / "none.png", images[0]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    assert predict(trained, ["-"], tmp_path / "out") == 2
    output = capsys.readouterr()
    assert [line.partition(":")[0] for line in output.out.splitlines()[:2]] == [str(images[1]), str(images[0])]
    assert output.err == f"ladderseg: error: {tmp_path / 'none.png'}: no such file\n"
    assert predict(trained, ["-", "-"], tmp_path / "out") == 2
    assert "can be given once only" in capsys.readouterr().err


def test_pattern(trained, directory, tmp_path):
    assert predict(trained, [directory / "**" / "*.png"], tmp_path / "out") == 0
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")) == [
        "deep/one_labels.png",
        "one_labels.png",
    ]


def test_video(trained, images, tmp_path, capsys, monkeypatch):
    write_video(tmp_path / "film.avi", [StreetScenes(5, (64, 96))[i].image for i in range(5)])
    write_video(tmp_path / "cut.mp4", grey_frames(3))
    content = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    out = tmp_path / "out"
    inputs = [tmp_path / "cut.mp4", tmp_path / "film.avi", images[0]]
    assert predict(trained, inputs, out, "--every", "2", "--batch", "2") == 2
    assert names(out) == [
        "film_000000_labels.png",
        "film_000002_labels.png",
        "film_000004_labels.png",
        "one_labels.png",
    ]
    output = capsys.readouterr()
    assert re.fullmatch(r"ladderseg: error: .*cut\.mp4: cannot read the video \(.*\)\n", output.err)
    lines = output.out.splitlines()
    assert lines[1] == f"{tmp_path / 'film.avi'} frame 2: {out / 'film_000002_labels.png'}"
    assert lines[-1].startswith("labelled 4 of 5 images")
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(trained, inputs, tmp_path / "without") == 2
    assert 'pip install "ladderseg_fast[video]"' in capsys.readouterr().err
    assert not (tmp_path / "without").exists()


def test_a_video_of_more_than_8_bits_is_not_cut_without_a_word(trained, tmp_path, capsys):
    write_video(tmp_path / "deep.mkv", grey_frames(2), codec="ffv1", form="yuv420p10le")
    assert predict(trained, [tmp_path / "deep.mkv"], tmp_path / "out") == 0
    expected = f"ladderseg: warning: {tmp_path / 'deep.mkv'}: of the 10 bits of a channel 8 are used\n"
    assert capsys.readouterr().err == expected


def test_images_above_the_limit_of_pixels(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # above twice that Pillow refuses
    Image.new("RGB", (160, 100)).save(tmp_path / "large.png")
    for options, status in (((), 2), (("--max-pixels", "15998"), 2), (("--max-pixels", "16000"), 0)):
        assert predict(trained, [tmp_path / "large.png"], tmp_path / "out", *options) == status
        error = capsys.readouterr().err
        if status:
            assert re.search(r"large\.png: .*16000 pixels.*; --max-pixels N reads images of up to N pixels", error)
    assert Image.MAX_IMAGE_PIXELS == 5000


@pytest.fixture
def many(tmp_path):
    """Eight images, of which the fourth is damaged."""
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for number, path in enumerate(paths):
        Image.fromarray(StreetScenes(8, (64, 96))[number].image).save(path)
    paths[3].write_bytes(b"no image")
    return paths


@pytest.mark.parametrize("batch", ["1", "3"])
def test_messages_are_in_the_order_of_the_images(trained, many, tmp_path, capfd, monkeypatch, batch):
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    assert predict(trained, many, tmp_path / "out", "--batch", batch) == 2
    lines = [line.removeprefix("ladderseg: error: ") for line in capfd.readouterr().out.splitlines()]
    assert [line.partition(":")[0] for line in lines[:-1]] == [str(path) for path in many]
    assert lines[-1].startswith("labelled 7 of 8 images")


def test_a_full_disk(trained, many, tmp_path, capsys, monkeypatch):
    """Of the second image's results, and no others'."""
    monkeypatch.setattr("ladderseg_fast.atomic_file.os.fsync", full_disk_for("1_overlay.png"))
    out = tmp_path / "out"
    assert predict(trained, many[:3], out, "--write", "labels,overlays") == 2
    error = capsys.readouterr().err
    assert error == f"ladderseg: error: {many[1]}: cannot write {out / '1_overlay.png'}: No space left on device\n"
    written = [f"{number}_{kind}.png" for number in range(3) for kind in ("labels", "overlay")]
    assert names(out) == sorted([*(set(written) - {"1_overlay.png"}), "legend.png"])


def full_disk_for(name):
    """A stand-in for os.fsync that finds the disk full at the file that will be called `name`."""

    def fsync(descriptor):
        if name in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")

    return fsync


def test_interrupt(trained, many, tmp_path, capsys, monkeypatch):
    """Files that were begun are whole, and no thread goes on."""

    def label(model, images, probabilities):
        if str(images[0].source) == str(many[2]):
            os.kill(os.getpid(), signal.SIGINT)
        return _label(model, images, probabilities)

    before = threading.active_count()
    monkeypatch.setattr("ladderseg_fast.engine.predict._label", label)
    assert predict(trained, many, tmp_path / "out") == 130
    assert capsys.readouterr().err == "ladderseg: interrupted\n"
    assert threading.active_count() == before
    assert set(names(tmp_path / "out")) <= {"0_labels.png", "1_labels.png"}
    for path in (tmp_path / "out").iterdir():
        Image.open(path).load()


def test_nobody_reads_the_output(trained, many, tmp_path, monkeypatch):
    """As behind `| head`: the command ends, and its threads do."""
    before, (reader, writer) = threading.active_count(), os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", open(writer, "w"))
    assert predict(trained, many, tmp_path / "out") == CLOSED_PIPE
    assert threading.active_count() == before
    assert len(names(tmp_path / "out")) < 7


#: What --tile says of some files, other than without it.
SAID_OF_TILES = {
    "bomb.png": "too short for 60000x60000 pixels",
    "cut.png": "truncated",
    "float.tif": "32 bits per channel, float32",
    "gone.png": "No such file",
    "lab.tif": "colours are CIELAB",
    "signed.tif": "16 bits per channel, int16",
    "smooth.tif": "values between none and full",
    "sum.png": "checksum of a chunk IDAT is wrong",
}


@pytest.mark.parametrize("options", [(), ("--tile", "128")])
def test_folder_of_bad_files(trained, tmp_path, capsys, monkeypatch, options):
    """The kinds of image files of docs/data.md."""
    folder, scene = tmp_path / "folder", Image.fromarray(StreetScenes(1, (64, 96))[0].image)
    bad = write_bad_images(folder, scene)
    good = {
        **{"grey.png": scene.convert("L"), "palette.png": scene.quantize(16), "bits.png": scene.convert("1")},
        **{"alpha.png": scene.convert("RGBA"), "cmyk.jpg": scene.convert("CMYK"), "lab.tif": scene.convert("LAB")},
        "sum.png": scene,
    }
    for name, picture in good.items():
        picture.save(folder / name)
    content = bytearray((folder / "sum.png").read_bytes())
    content[content.rindex(b"IEND") - 5] ^= 1  # which decoders do not look at
    (folder / "sum.png").write_bytes(content)
    exif = Image.Exif()
    exif[0x0112] = 6
    scene.save(folder / "turned.jpg", exif=exif)
    scene.save(folder / "eyes.jpg", format="MPO", save_all=True, append_images=[scene])
    if options:
        bad.update(SAID_OF_TILES)
    refuse_to_open("secret.png", monkeypatch)
    assert predict(trained, [folder], tmp_path / "out", *options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ladderseg: error: ")]
    assert len(errors) == len(bad), errors
    for line, (name, message) in zip(errors, sorted(bad.items()), strict=True):
        assert name in line and re.search(message, line), line
    assert names(tmp_path / "out") == sorted(
        f"{name[:-4]}_labels.png" for name in (*good, "turned.jpg", "eyes.jpg") if name not in bad
    )
    assert Image.open(tmp_path / "out" / "turned_labels.png").size == (64, 96)


def refuse_to_open(name, monkeypatch):
    """Lets opening a file of this name fail as one without permission; root, who runs many tests, may open all."""

    def refuse(file, *arguments, **options):
        if not isinstance(file, int) and os.path.basename(file) == name:
            raise PermissionError(13, "Permission denied", str(file))
        return original(file, *arguments, **options)

    original = builtins.open
    monkeypatch.setattr(builtins, "open", refuse)


def write_bad_images(folder, scene):
    """Writes image files that cannot be read; returns the pattern of the message for each name."""
    tifffile = pytest.importorskip("tifffile")
    folder.mkdir()
    scene.save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:-200])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no image")
    (folder / "gone.png").symlink_to(folder / "nothing")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    scene.crop((0, 0, 96, 63)).save(folder / "low.png")
    Image.fromarray(np.full((64, 96), 40000, np.uint16)).save(folder / "deep.png")
    scene.save(folder / "moves.gif", save_all=True, append_images=[scene.rotate(180)])
    scene.save(folder / "pages.tif", save_all=True, append_images=[scene])
    smooth = scene.copy()
    smooth.putalpha(Image.linear_gradient("L").resize(scene.size))
    smooth.save(folder / "smooth.tif")
    (folder / "secret.png").write_bytes((folder / "low.png").read_bytes())
    other = {  # with bands or numbers that RGB of 8 bits does not hold
        "bands.tif": (np.zeros((64, 96, 5), np.uint8), "minisblack"),
        "three.tif": (np.zeros((64, 96, 3), np.uint8), "minisblack"),
        "float.tif": (np.zeros((64, 96), np.float32), "minisblack"),
        "signed.tif": (np.zeros((64, 96), np.int16), "minisblack"),
        "wide.tif": (np.zeros((64, 96, 3), np.uint32), "rgb"),
    }
    for name, (pixels, photometric) in other.items():
        tifffile.imwrite(folder / name, pixels, photometric=photometric, planarconfig="contig")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "bomb.png").write_bytes(start + b"\0\0\0\0IDAT" + b"\0" * 100)
    return {
        "bands.tif": "4 more bands not marked as transparency",
        "bomb.png": "exceeds limit of",
        "cut.png": "cannot read the image",
        "deep.png": "16 bits per channel",
        "empty.png": "the file is empty",
        "float.tif": "32 floating-point bits per channel",
        "gone.png": "a symbolic link to no file",
        "loop.png": "Too many levels of symbolic links",
        "low.png": r"image is 63x96, at least 64x64 \(HxW\) is needed",
        "moves.gif": "the file holds 2",
        "pages.tif": "the file holds 2",
        "pipe.png": "not an ordinary file",
        "secret.png": "Permission denied",
        "signed.tif": "16 signed bits per channel",
        "smooth.tif": "values between 0 and 255",
        "text.png": "not an image",
        "three.tif": "2 more bands not marked as transparency",
        "wide.tif": "32 bits per channel",
    }


def test_example_of_the_documentation_runs(trained, images, tmp_path, capsys, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "prediction.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(from pathlib.+?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("run1").symlink_to(trained)
    Path("photos").mkdir()
    images[1].rename("photos/two.jpg")
    Path("photos/bad.jpg").write_text("no image")
    exec(example, {})
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("photos/bad.jpg photos/bad.jpg: not an image")
    assert re.fullmatch(r"photos/two\.jpg \(111, 77\) \d+", output[1])


def test_warning_of_another_process_alone():
    """One of the processes that share the images has shrunk one; the first speaks."""
    said = []
    ShrunkImages(said.append).finish(SimpleNamespace(gather=lambda counts: [counts, (3, 1, "a.png: 9 pixels")]))
    assert said == ["a.png: 9 pixels"]


def test_what_could_not_be_read_is_named():
    notes = []
    _note_left_out(SimpleNamespace(unread=["a: Permission denied"], others=2), notes.append)
    assert notes == [
        "ladderseg: error: a: Permission denied",
        "ladderseg: 2 files without an image's ending are left out",
    ]
