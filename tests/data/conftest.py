"""A data set in CamVid's layout, made for the test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    """Three pairs of 24x32 in train and one in val; each annotation holds all of 0 to 11."""
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for split, stems in (("train", ("a", "b", "c")), ("val", ("d",))):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        (root / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for stem in stems:
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(root / split / f"{stem}.png")
            labels = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 12
            Image.fromarray(labels).save(root / f"{split}annot" / f"{stem}.png")
    return root
