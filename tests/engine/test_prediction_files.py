"""Files that a prediction is written to."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladderseg_fast.data import LabelSet
from ladderseg_fast.engine import LabelledImage
from ladderseg_fast.engine.prediction_files import FILE_KINDS, check_packages
from ladderseg_fast.models.weights import MissingPackageError

LABEL_SET = LabelSet(("sky", "Straße", "tree"), ((255, 0, 0), (0, 200, 0), (0, 0, 100)))
SHARES = np.random.default_rng(0).dirichlet((1, 1, 1), (5, 7)).transpose(2, 0, 1).astype(np.float16)
LABELS = SHARES.argmax(0).astype(np.uint8)
PIXELS = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def write(kind: str, directory: Path) -> Path:
    path = directory / f"x{FILE_KINDS[kind].ending}"
    FILE_KINDS[kind].write(path, LabelledImage("x", LABELS, (5, 7), PIXELS, SHARES), LABEL_SET)
    return path


def test_names_differ() -> None:
    assert len({kind.ending for kind in FILE_KINDS.values()}) == len(FILE_KINDS)


def test_pictures(tmp_path: Path) -> None:
    colours = np.array(LABEL_SET.palette)[LABELS]
    assert np.array_equal(np.asarray(Image.open(write("labels", tmp_path))), LABELS)
    assert np.array_equal(np.asarray(Image.open(write("colours", tmp_path))), colours)
    overlay = np.asarray(Image.open(write("overlays", tmp_path)))
    assert np.abs(overlay - (colours + PIXELS.astype(float)) / 2).max() <= 0.5


def test_numpy_archive(tmp_path: Path) -> None:
    with np.load(write("probabilities", tmp_path)) as archive:
        assert sorted(archive) == ["classes", "probabilities"]
        assert archive["classes"].tolist() == list(LABEL_SET.names)
        assert archive["probabilities"].dtype == np.float16
        assert np.array_equal(archive["probabilities"], SHARES)


def test_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="TIFFs are written by tifffile, an optional dependency")
    path = write("probabilities-tiff", tmp_path)
    with tifffile.TiffFile(path) as file:
        description = json.loads(file.pages[0].description)
        assert (description["axes"], description["classes"]) == ("CYX", list(LABEL_SET.names))
        planes = file.asarray()
    assert planes.dtype == np.float32
    assert np.array_equal(planes, SHARES)


@pytest.mark.parametrize("kind", ["overlays", "probabilities", "probabilities-tiff"])
def test_what_was_not_asked_for_is_no_empty_file(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="labelled without what this file needs"):
        FILE_KINDS[kind].write(tmp_path / "x", LabelledImage("x", LABELS, (5, 7)), LABEL_SET)
    assert list(tmp_path.iterdir()) == []


def test_without_tifffile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    check_packages(["labels", "probabilities"])
    with pytest.raises(MissingPackageError, match=r'tifffile: pip install "ladderseg_fast\[tiff\]"'):
        check_packages(["labels", "probabilities-tiff"])
