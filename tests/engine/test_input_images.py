"""Which images a prediction is asked for, and where their results go."""

import os
from pathlib import Path

import pytest

from ladderseg_fast.engine.input_images import find_images

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
