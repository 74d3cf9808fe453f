"""Facts that decide about the results for an image, by which an unfinished prediction is known to be the same one."""

import os
from pathlib import Path
from typing import Any

from ...tensor_digest import tensor_digest
from ..checkpoint import Checkpoint
from .grid import TileSize


def prediction_settings(path: Path, checkpoint: Checkpoint, tiles: TileSize) -> dict[str, Any]:
    """Facts about a prediction in `tiles` of the image at `path`, by the names that messages call them by.

    An image is known by its path, its bytes in all, and when it was changed last; a network by its weights.

    Raises:
        OSError: there is no such image.
    """
    form = checkpoint.normalisation
    return {
        "image": [os.path.realpath(path), *_identity(path)],
        "network": [checkpoint.model, tensor_digest(checkpoint.state)],
        "normalisation": [list(form.mean), list(form.std), form.bits],
        "colours": [list(colour) for colour in checkpoint.label_set.palette],
        "tile": tiles.tile,
        "overlap": tiles.overlap,
    }


def _identity(path: Path) -> tuple[int, int]:
    """Bytes, and nanoseconds of the last change, of a file, or of all files in a directory."""
    files = [path]
    if path.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    found = [file.stat() for file in files]
    return sum(status.st_size for status in found), max((status.st_mtime_ns for status in found), default=0)
