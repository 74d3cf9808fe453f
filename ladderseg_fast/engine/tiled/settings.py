"""Facts that decide about the results for an image, by which an unfinished prediction is known to be the same one."""

import os
from pathlib import Path
from typing import Any

from ...tensor_digest import tensor_digest
from ..checkpoint import Checkpoint
from .grid import TileSize


def image_settings(path: Path) -> dict[str, Any]:
    """Facts about the image at `path`: its path, its bytes in all, and when it was changed last.

    Raises:
        OSError: there is no such image.
    """
    return {"image": [os.path.realpath(path), *_identity(path)]}


def prediction_settings(checkpoint: Checkpoint, tiles: TileSize) -> dict[str, Any]:
    """Facts about a prediction in `tiles`, by the names that messages call them by. A network is known by its weights.

    All weights are looked at, so it takes a moment.
    """
    form = checkpoint.normalisation
    return {
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
