"""Which images a prediction is asked for, and where their results go."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from ladderseg_fast.data import RGB, ImageForm
from ladderseg_fast.engine.input_images import InputFrame, find_images, read_list

pytestmark = pytest.mark.real_use


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def results(paths: list[Path], out: Path, recursive: bool = False) -> dict[str, str]:
    found = find_images(paths, out, recursive)
    return {str(image.path): str(image.output("_labels.png").relative_to(out)) for image in found.images}


def test_names_never_collide(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.png", "a/x.jpg", "a/y.png", "b/x.png")
    out = tmp_path / "out"
    assert results([tmp_path / "a", tmp_path / "b"], out) == {
        f"{tmp_path}/a/x.jpg": "a/x.jpg_labels.png",
        f"{tmp_path}/a/x.png": "a/x.png_labels.png",
        f"{tmp_path}/a/y.png": "a/y_labels.png",
        f"{tmp_path}/b/x.png": "b/x_labels.png",
    }
    with pytest.raises(ValueError, match=r"a/x\.png and .*b/x\.png would both be written to .*out/x\.png_labels\.png"):
        find_images([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"], out)
    touch(tmp_path, "a/x.png.png")
    with pytest.raises(ValueError, match="would both be written"):
        find_images([tmp_path / "a"], out)


def test_results_of_before_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "photos/x.png", "photos/out/x_labels.png", "photos/more/y.png")
    found = results([tmp_path / "photos"], tmp_path / "photos" / "out", recursive=True)
    assert sorted(found.values()) == ["more/y_labels.png", "x_labels.png"]
    with pytest.raises(ValueError, match="--out must be another directory"):
        find_images([tmp_path / "photos"], tmp_path / "photos")


def test_directory_without_images(tmp_path: Path) -> None:
    touch(tmp_path, "photos/deep/x.png", "photos/notes.txt", "photos/.hidden.png", "photos/table.h5")
    with pytest.raises(ValueError, match=r"photos: no images .*-r looks into its 1 subdirectories"):
        find_images([tmp_path / "photos"], tmp_path / "out")
    found = find_images([tmp_path / "photos"], tmp_path / "out", recursive=True)
    assert (len(found.images), found.others) == (1, 3)


def test_links(tmp_path: Path) -> None:
    """A link to a directory is not followed; one to itself is an image that cannot be read."""
    touch(tmp_path, "photos/x.png")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "loop.png").symlink_to(tmp_path / "photos" / "loop.png")
    found = results([tmp_path / "photos"], tmp_path / "out", recursive=True)
    assert sorted(map(os.path.basename, found)) == ["loop.png", "x.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", {"a.jpg": "a_labels.png"}),
        ("photos/*", {"a.jpg": "a.jpg_labels.png", "a.png": "a.png_labels.png", "film.mp4": "film_labels.png"}),
        ("photos/**/*.jpg", {"a.jpg": "a_labels.png", "deep/a.jpg": "deep/a_labels.png"}),
        ("photos/**/deep/*.jp*", {"deep/a.jpg": "deep/a_labels.png"}),
        ("photos/d*/a.[jp][pn]g", {"deep/a.jpg": "deep/a_labels.png"}),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, expected: dict[str, str]) -> None:
    """Results keep the subdirectories below what stands before the first wildcard."""
    touch(tmp_path, *(f"photos/{name}" for name in ("a.jpg", "a.png", "film.mp4", "deep/a.jpg", "notes.txt")))
    touch(tmp_path, *(f"photos/{name}" for name in (".hidden.jpg", ".cache/a.jpg", "out/a_labels.jpg")))
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    found = results([tmp_path / pattern], tmp_path / "photos" / "out")
    assert found == {f"{tmp_path}/photos/{name}": result for name, result in expected.items()}


def test_pattern_of_a_whole_tree(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "photos/deep/er/b.jpg", "photos/notes.txt", "photos/deep/table.h5")
    found = find_images([tmp_path / "photos" / "**"], tmp_path / "out")
    assert [str(image.output("").relative_to(tmp_path)) for image in found.images] == ["out/a", "out/deep/er/b"]
    assert found.others == 2


def test_pattern_that_nothing_matches(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.txt")
    for pattern in ("photos/*.jpg", "photos/*", "none/*/*.jpg"):
        with pytest.raises(ValueError, match=r"\*.*: no images or videos match this pattern"):
            find_images([tmp_path / pattern], tmp_path / "out")
    with pytest.raises(ValueError, match="--out must be another directory"):
        find_images([tmp_path / "photos" / "*.txt"], tmp_path / "photos")


def test_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].png", "a1.png", "photos*/b.png")
    assert results([tmp_path / "a[1].png", tmp_path / "photos*"], tmp_path / "out") == {
        f"{tmp_path}/a[1].png": "a[1]_labels.png",
        f"{tmp_path}/photos*/b.png": "b_labels.png",
    }


def test_list(tmp_path: Path) -> None:
    """Results keep the subdirectories below the directory that has all files; nothing in it is a pattern."""
    names = read_list(
        io.BytesIO(os.fsencode(f"{tmp_path}/a/x.png\r\n\n{tmp_path}/b/x.png\n{tmp_path}/b/*\nrel\xff.png"))
    )
    assert [name.name for name in names] == ["x.png", "x.png", "*", "rel\xff.png"]
    assert results([names[:3]], tmp_path / "out") == {
        f"{tmp_path}/a/x.png": "a/x_labels.png",
        f"{tmp_path}/b/*": "b/*_labels.png",
        f"{tmp_path}/b/x.png": "b/x_labels.png",
    }
    assert results([names[:1]], tmp_path / "out") == {f"{tmp_path}/a/x.png": "x_labels.png"}
    assert results([[Path("x.png"), Path("y/x.png")]], tmp_path / "out") == {
        "x.png": "x_labels.png",
        "y/x.png": "y/x_labels.png",
    }
    touch(tmp_path, "c/x.png")
    assert results([names[:2], tmp_path / "c"], tmp_path / "out") == {
        f"{tmp_path}/a/x.png": f"{tmp_path.name}/a/x_labels.png",
        f"{tmp_path}/b/x.png": f"{tmp_path.name}/b/x_labels.png",
        f"{tmp_path}/c/x.png": "c/x_labels.png",
    }
    assert find_images([[]], tmp_path / "out").images == []


def test_results_of_frames_never_collide(tmp_path: Path) -> None:
    """How many frames a video has is not known before, so no other result may have a name of one."""
    touch(tmp_path, "film.mp4", "film.png", "film_000012.png", "film_12.png")
    film, frame, other = (tmp_path / name for name in ("film.mp4", "film_000012.png", "film_12.png"))
    with pytest.raises(ValueError, match=r"film\.mp4 and .*film_000012\.png would both be written to .*out"):
        find_images([film, frame], tmp_path / "out")
    with pytest.raises(ValueError, match=r"film\.mp4 and .*film_000012\.png would both be written to .*out"):
        find_images([frame, film], tmp_path / "out")
    assert len(find_images([film, other, tmp_path / "film.png"], tmp_path / "out").images) == 3
    touch(tmp_path, "film_000012_labels.png")
    with pytest.raises(ValueError, match=r"a result of .*film\.mp4 would overwrite the input image .*film_000012_lab"):
        find_images([film, tmp_path / "film_000012_labels.png"], tmp_path)


def test_only_the_results_that_are_written_may_collide(tmp_path: Path) -> None:
    touch(tmp_path, "x.png", "x_overlay.png")
    images = [tmp_path / "x.png", tmp_path / "x_overlay.png"]
    assert len(find_images(images, tmp_path, endings=["_labels.png"]).images) == 2
    with pytest.raises(ValueError, match=r"the result .*x_overlay\.png of .*x\.png would overwrite an input image"):
        find_images(images, tmp_path, endings=["_labels.png", "_overlay.png"])


def test_frames_of_videos_have_three_bands(tmp_path: Path) -> None:
    frame = InputFrame(tmp_path / "a.mp4", tmp_path / "a", 3, np.zeros((8, 8, 3), np.uint8))
    assert frame.read(RGB, 8).shape == (8, 8, 3)
    with pytest.raises(ValueError, match=r"a\.mp4: 4 bands of 16 bits are expected, but the frames of a video are RGB"):
        frame.read(ImageForm(4, 16), 8)
