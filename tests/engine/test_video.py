"""Frames of videos: which, in what colours, upright, and what is said of files that cannot be read."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from support.videos import grey_frames, write_video

from ladderseg_fast.engine.video import check_video_package, frames_of, read_facts
from ladderseg_fast.models.weights import MissingPackageError


@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv"])
def test_every_nth_frame_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"grey.{ending}"
    write_video(path, grey_frames(12))
    assert read_facts(path) == (12, 8)
    for every, expected in ((1, list(range(12))), (5, [0, 5, 10]), (100, [0])):
        frames = list(frames_of(path, every))
        assert [number for number, _ in frames] == expected
        for number, pixels in frames:
            assert (pixels.shape, pixels.dtype) == ((64, 96, 3), np.uint8)
            assert np.abs(pixels.astype(int) - 10 * number).max() <= 4


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_frames_are_upright(tmp_path: Path, rotation: int) -> None:
    """As of a telephone: the picture is stored sideways, and the file says how to turn it."""
    path, stored = tmp_path / "turned.mp4", np.zeros((64, 96, 3), np.uint8)
    stored[:32, :48] = (220, 40, 40)
    write_video(path, [stored, stored], rotation=rotation)
    _, pixels = next(frames_of(path))
    expected = np.rot90(stored, rotation // 90)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 10


def last_error(path: Path) -> str:
    """What is said after the last frame."""
    *_, (_, last) = frames_of(path)
    assert isinstance(last, OSError)
    return str(last)


def test_cut_videos_are_named(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), dtype=np.uint8))
    for ending, message in (
        ("mkv", r"it is cut short after \d\.\d of 2\.0 seconds"),
        ("avi", r"it is cut short after \d+ of 20 frames"),
        ("mp4", r"it has no video|Invalid data"),
    ):
        path = tmp_path / f"cut.{ending}"
        write_video(path, noise)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert re.search(rf"cut\.{ending}: cannot read the video \(({message})", last_error(path))


def test_long_frames_are_no_cut(tmp_path: Path) -> None:
    """As of a camera that takes one picture a second."""
    write_video(tmp_path / "slow.mkv", grey_frames(3), rate=1)
    assert [number for number, _ in frames_of(tmp_path / "slow.mkv")] == [0, 1, 2]


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    for name, content in (("text.mp4", b"no video " * 100), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(content)
        assert f"{tmp_path / name}: cannot read the video (Invalid data" in last_error(tmp_path / name)
        assert read_facts(tmp_path / name) == (1, 8)
    assert "none.mp4: cannot read the video (No such file" in last_error(tmp_path / "none.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "pipe.mp4: cannot read the video (not an ordinary file)" in last_error(tmp_path / "pipe.mp4")


def test_names_of_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before a colon is no protocol."""
    monkeypatch.chdir(tmp_path)
    write_video(Path("film.mp4"), grey_frames(2))
    path = Path(os.fsdecode(b"12:30\xff.mp4"))
    Path("film.mp4").rename(path)
    assert [number for number, _ in frames_of(path)] == [0, 1]


@pytest.mark.parametrize("offset", [0, 300], ids=["refused", "marked"])
def test_a_damaged_frame_does_not_end_the_video(tmp_path: Path, offset: int) -> None:
    """The decoder refuses a frame whose header is damaged, and marks one that it has made up in part."""
    path = tmp_path / "damaged.mp4"
    write_video(path, list(np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), dtype=np.uint8)))
    content = path.read_bytes()
    starts = [match.start() for match in re.finditer(b"\0\0\1\xb6", content)]  # MPEG-4's code before a frame
    damage = bytes(300)
    place = starts[6] + offset
    path.write_bytes(content[:place] + damage + content[place + len(damage) :])
    frames = list(frames_of(path))
    assert [number for number, _ in frames] == list(range(12))
    damaged = [str(pixels) for _, pixels in frames if isinstance(pixels, OSError)]
    assert damaged == [f"{path}: frame 6 is damaged"]


def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r'PyAV: pip install "ladderseg_fast\[video\]"'):
        check_video_package()
