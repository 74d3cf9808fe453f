"""Files of results: what they hold, how they are continued, and what ends their writing."""

import errno
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ladderseg_fast.data import STREET_LABELS
from ladderseg_fast.engine.tiled import FORMATS, ResultFile, RowForm, appended_file, tiff_planes, tiff_rows
from ladderseg_fast.engine.tiled.result_file import PARTIAL, PLANES, STATE

COLOURS = STREET_LABELS.colour_table()
SIZE = (150, 70)
LABELS = (np.add.outer(np.arange(150) // 9, np.arange(70) // 11) % len(STREET_LABELS)).astype(np.uint8)
SETTINGS = {"tile": 128, "overlap": 32, "weights": "abc"}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiff_rows, "TILE", 32)


@pytest.fixture(params=FORMATS)
def format(request):
    return request.param


def begin(path, format, notes=None, **changes):
    note = [].append if notes is None else notes.append
    return ResultFile(path, format, RowForm(SIZE, palette=COLOURS), SETTINGS | changes, note)


def rows(start, stop=SIZE[0]):
    """Rows of the labels, as a prediction gives them."""
    return SimpleNamespace(top=start, bottom=stop, labels=LABELS[start:stop])


def write(path, format, edges=(0, 40, 41, 100, 150)):
    """Writes the labels in strips with these edges."""
    with begin(path, format) as file:
        for start, stop in zip(edges, edges[1:]):
            file.write(rows(start, stop))
            file.synchronise()
        file.finish()
    return path


def read(path):
    """Labels, and their colours if the file has any."""
    if path.suffix == ".npy":
        return np.load(path), None
    image = Image.open(path)
    assert image.mode == "P"
    return np.asarray(image), np.array(image.getpalette(), np.uint8).reshape(-1, 3)


def ending(format):
    return FORMATS[format][1]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_readers_see_labels_and_colours(tmp_path, format):
    labels, colours = read(write(tmp_path / f"a{ending(format)}", format))
    assert labels.dtype == np.uint8 and np.array_equal(labels, LABELS)
    assert colours is None or np.array_equal(colours[: len(STREET_LABELS)], STREET_LABELS.palette)
    assert names(tmp_path) == [f"a{ending(format)}"]


def test_labels_are_no_programs(tmp_path, format):
    path = write(tmp_path / f"a{ending(format)}", format)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("big", [False, True])
def test_tifffile_sees_tiles(tmp_path, monkeypatch, big):
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr(tiff_rows, "_BIG", 1 if big else 2**31)
    with tifffile.TiffFile(write(tmp_path / "a.tif", "tiff")) as file:
        assert file.is_bigtiff == big
        page = file.pages[0]
        assert (page.tilewidth, page.tilelength, page.photometric.name) == (32, 32, "PALETTE")
        assert np.array_equal(page.asarray(), LABELS)
        assert np.array_equal(page.colormap, COLOURS.T.astype(np.uint16) * 257)


def test_png_is_complete(tmp_path):
    path = write(tmp_path / "a.png", "png")
    with Image.open(path) as image:
        image.verify()
    assert path.stat().st_size < LABELS.size / 4


@pytest.mark.parametrize("cut", [40, 41, 100])
def test_continued_labels_are_the_same_bytes(tmp_path, format, cut):
    whole = write(tmp_path / f"whole{ending(format)}", format).read_bytes()
    path, notes = tmp_path / f"a{ending(format)}", []
    edges = [edge for edge in (0, 40, 41, 100, 150) if edge <= cut]
    with begin(path, format, notes) as file:
        assert file.rows == 0
        for start, stop in zip(edges, edges[1:]):
            file.write(rows(start, stop))
            file.synchronise()
        file.write(rows(cut, cut + 7))  # not safe yet
    assert not path.exists()
    with begin(path, format, notes) as file:
        start = file.rows
        assert start == (cut if format != "tiff" else cut // 32 * 32)
        for stop in (40, 41, 100, 150):
            if stop > start:
                file.write(rows(start, stop))
                file.synchronise()
                start = stop
        file.finish()
    assert notes == [f"{path}: continued from row {cut if format != 'tiff' else cut // 32 * 32} of 150"]
    assert path.read_bytes() == whole
    assert names(tmp_path) == sorted({path.name, f"whole{ending(format)}"})


def test_labels_that_were_complete_but_not_finished(tmp_path, format):
    whole = write(tmp_path / "whole", format, (0, 90, 150)).read_bytes()
    with begin(tmp_path / "a", format) as file:
        for edges in ((0, 90), (90, 150)):
            file.write(rows(*edges))
            file.synchronise()
    with begin(tmp_path / "a", format) as file:
        assert file.rows == 150
        file.finish()
    assert (tmp_path / "a").read_bytes() == whole


def unfinished(path, format="png"):
    with begin(path, format) as file:
        file.write(rows(0, 64))
        file.synchronise()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tile": 256}, "what is unfinished is of another tile"),
        ({"overlap": 0, "weights": "x"}, "what is unfinished is of another overlap, weights"),
        ({"more": 1}, "what is unfinished is of another more"),
    ],
)
def test_other_settings_begin_anew(tmp_path, format, changes, reason):
    path, notes = tmp_path / "a", []
    unfinished(path, format)
    with begin(path, format, notes, **changes) as file:
        assert file.rows == 0
        assert notes == [f"{path}: begun anew: {reason}"]
        assert not (tmp_path / f"a{STATE}").exists()


def test_unfinished_labels_that_changed_begin_anew(tmp_path, format):
    path, partial = tmp_path / "a", tmp_path / f"a{PARTIAL}"
    for damage in (
        lambda data: data[:-1],
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: b"",
    ):
        unfinished(path, format)
        partial.write_bytes(damage(partial.read_bytes()))
        notes = []
        with begin(path, format, notes) as file:
            assert file.rows == 0
        assert notes == [f"{path}: begun anew: what is unfinished is not as it was left"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"settings": 1, "pixels": 2}'])
def test_unreadable_state_begins_anew(tmp_path, content):
    unfinished(tmp_path / "a")
    (tmp_path / f"a{STATE}").write_bytes(content)
    notes = []
    with begin(tmp_path / "a", "png", notes) as file:
        assert file.rows == 0
    assert "begun anew" in notes[0] and "not readable" in notes[0]


def test_labels_without_a_state_begin_anew(tmp_path):
    unfinished(tmp_path / "a")
    (tmp_path / f"a{STATE}").unlink()
    with begin(tmp_path / "a", "png") as file:
        assert file.rows == 0


def test_nothing_is_left_of_a_file_without_safe_rows(tmp_path, format):
    with begin(tmp_path / "a", format) as file:
        file.write(rows(0, 40))
    assert names(tmp_path) == []
    unfinished(tmp_path / "a", format)
    assert names(tmp_path) == [f"a{PARTIAL}", f"a{STATE}"]


def test_two_processes_do_not_write_the_same_labels(tmp_path):
    with begin(tmp_path / "a", "png") as first:
        with pytest.raises(BlockingIOError, match="a.partial: another process writes this file"):
            begin(tmp_path / "a", "png")
        first.write(rows(0))
        first.finish()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a")), LABELS)


def test_a_finished_result_stays_until_the_new_one_is_complete(tmp_path, format):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    unfinished(path, format)
    assert path.read_bytes() == b"old"
    with begin(path, format) as file:
        file.write(rows(file.rows))
        file.finish()
    assert path.read_bytes() != b"old"
    (tmp_path / "link").symlink_to(path)
    with begin(tmp_path / "link", format) as file:
        file.write(rows(0))
        file.finish()
    assert (tmp_path / "link").is_symlink() and names(tmp_path) == ["a", "link"]


def test_a_replaced_file_leaves_its_permissions_and_the_renaming_is_forced_to_the_disk(tmp_path, monkeypatch):
    path, synchronised = tmp_path / "a", []
    path.write_bytes(b"old")
    path.chmod(0o640)
    fsync = os.fsync
    monkeypatch.setattr(
        "ladderseg_fast.atomic_file.os.fsync",
        lambda descriptor: synchronised.append(os.readlink(f"/proc/self/fd/{descriptor}")) or fsync(descriptor),
    )
    write(path, "png")
    assert path.stat().st_mode & 0o777 == 0o640
    assert synchronised[-1] == str(tmp_path)


def test_a_full_disk_is_named_and_what_was_safe_is_continued(tmp_path, monkeypatch):
    path = tmp_path / "a"
    unfinished(path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with begin(path, "png") as file, monkeypatch.context() as patch:
        patch.setattr("ladderseg_fast.engine.tiled.appended_file.os.fsync", full)
        file.write(rows(64, 100))
        with pytest.raises(OSError, match=r"cannot write .*a\.partial: No space left on device"):
            file.synchronise()
    with begin(path, "png") as file:
        assert file.rows == 64


def test_a_directory_or_a_missing_one_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a directory"):
        begin(tmp_path / "a", "png")
    with pytest.raises(OSError, match=r"cannot write .*b\.partial"):
        begin(tmp_path / "none" / "b", "png")


def test_state_says_what_the_labels_are_of(tmp_path):
    unfinished(tmp_path / "a")
    record = json.loads((tmp_path / f"a{STATE}").read_text())
    assert record["settings"] == SETTINGS | {"version": 2, "format": "png", "size": [150, 70]}


PICTURE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.mark.parametrize("big", [False, True])
def test_colours(tmp_path, monkeypatch, format, big):
    monkeypatch.setattr(tiff_rows, "_BIG", 1 if big else 2**31)
    path = tmp_path / f"a{ending(format)}"
    form = RowForm(SIZE, channels=3)
    for stop in (60, 150):  # the second time it is continued
        with ResultFile(path, format, form, SETTINGS, draw=lambda rows: PICTURE[rows.top : rows.bottom]) as file:
            for top in range(file.rows, stop, 20):
                file.write(rows(top, min(top + 20, stop)))
                file.synchronise()
            if stop == 150:
                file.finish()
    if format == "tiff":  # Pillow does not know all of BigTIFF
        found = pytest.importorskip("tifffile").imread(path)
    else:
        found = np.load(path) if format == "npy" else np.asarray(Image.open(path))
    assert np.array_equal(found, PICTURE)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("planes", [1, 5])
def test_planes(tmp_path, monkeypatch, big, planes):
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr(tiff_planes, "ROWS", 32)
    monkeypatch.setattr(tiff_planes, "COLUMNS", 16)
    monkeypatch.setattr(tiff_planes, "_BIG", 1 if big else 2**31)
    values = np.random.default_rng(0).random((SIZE[0], planes, SIZE[1])).astype(np.float16)
    contents = []
    for name, cut in (("whole.tif", 150), ("cut.tif", 90)):
        for stop in sorted({cut, 150}):
            form = RowForm(SIZE, planes)
            with ResultFile(
                tmp_path / name, PLANES, form, {}, draw=lambda rows: values[rows.top : rows.bottom]
            ) as file:
                assert file.rows in (0, 64)
                for top in range(file.rows, stop, 20):
                    file.write(rows(top, min(top + 20, stop)))
                    file.synchronise()
                if stop == 150:
                    file.finish()
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    with tifffile.TiffFile(tmp_path / "cut.tif") as file:
        assert file.is_bigtiff == big
        found = file.asarray().reshape(planes, *SIZE)
    assert found.dtype == np.float32 and np.array_equal(found, values.swapaxes(0, 1))


def test_a_file_that_is_renamed_before_it_is_locked(tmp_path, monkeypatch):
    """Its last writer has finished between the two calls: what is locked then is the file with the name."""
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"finished")
    other.write_bytes(b"new")
    original = appended_file.fcntl.flock

    def flock(*arguments):
        if other.exists():
            other.replace(path)
        return original(*arguments)

    monkeypatch.setattr(appended_file.fcntl, "flock", flock)
    file = appended_file.AppendedFile(path)
    file.begin()
    file.close()
    assert path.read_bytes() == b""
