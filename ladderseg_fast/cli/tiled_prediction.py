"""Labels of images that are too large for memory: `ladderseg predict --tile`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ..data import above_pixel_limit
from ..engine import Checkpoint
from ..engine.errors import SystemRefusal
from ..engine.input_images import InputImage
from ..engine.progress import Progress
from ..engine.refusals import refusals_named
from ..engine.tiled import FORMATS, LabelFile, TileSize, open_windows, predict_tiled
from ..engine.tiled.settings import prediction_settings
from ..models import SegmentationModel
from ..models.weights import MissingPackageError
from .arguments import non_negative_int, positive_int

#: Share of a tile that overlaps the next, unless --overlap says otherwise.
_OVERLAP = 4


def add_tile_options(parser: argparse.ArgumentParser) -> None:
    """Adds --tile and what goes with it."""
    group = parser.add_argument_group(
        "images of any size",
        "With --tile, PNG, TIFF, .npy and Zarr images are read in windows and labelled at their own size, tile by "
        "tile, in memory that does not depend on their height. An interrupted command, given again, continues.",
    )
    group.add_argument(
        "--tile", type=positive_int, metavar="N", help="height and width of a tile in pixels, such as 1024"
    )
    group.add_argument(
        "--overlap",
        type=non_negative_int,
        metavar="N",
        help="pixels that neighbours share (default: a quarter of a tile)",
    )
    group.add_argument("--format", choices=FORMATS, help="of the labels: png (default), tiff in tiles, or npy")


def check_tile_options(arguments: argparse.Namespace) -> None:
    """Checks that the options fit each other.

    Raises:
        ValueError: one needs --tile, or cannot go with it.
    """
    if arguments.tile is None:
        for name in ("overlap", "format"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name} is of use with --tile only")
        return
    if isinstance(arguments.size, tuple):
        raise ValueError("--size HxW cannot go with --tile, which sees images at their own size")
    if arguments.write != ("labels",):
        raise ValueError(f"--write {','.join(arguments.write)} cannot go with --tile, which writes labels only")
    if arguments.batch > 1:
        raise ValueError(f"--batch {arguments.batch} cannot go with --tile, which labels one tile at a time")


def tiled_endings(arguments: argparse.Namespace) -> list[str]:
    """Ends of the names of results with --tile."""
    return ["_labels" + FORMATS[_format(arguments)][1]]


def label_in_tiles(
    arguments: argparse.Namespace, images: Sequence[InputImage], checkpoint: Checkpoint, model: SegmentationModel
) -> int:
    """Labels `images` one after the other, and returns how many could be labelled.

    Raises:
        ValueError: the tiles do not fit the network, or there is a video.
    """
    for image in images:
        if image.is_video:
            raise ValueError(f"{image}: the frames of a video are labelled as wholes, without --tile")
    tiles = _tiles(arguments, model.min_size)
    format, (ending,) = _format(arguments), tiled_endings(arguments)
    labelled = 0
    for image in images:
        output = image.output(ending)
        try:
            with refusals_named():
                _label(image.path, output, format, checkpoint, model, tiles)
        except (OSError, ValueError, SystemRefusal, MissingPackageError) as error:
            _note(f"error: {_reason(image, error)}")
        except KeyboardInterrupt:
            _note(f"{output}: unfinished; the same command continues it")
            raise
        else:
            print(f"{image}: {output}", flush=True)
            labelled += 1
    return labelled


def _label(
    path: Path, output: Path, format: str, checkpoint: Checkpoint, model: SegmentationModel, tiles: TileSize
) -> None:
    settings = prediction_settings(path, checkpoint, tiles)
    colours = checkpoint.label_set.colour_table()
    with closing(open_windows(path, checkpoint.normalisation.form)) as image:
        output.parent.mkdir(parents=True, exist_ok=True)
        with LabelFile(output, format, image.size, colours, settings, _note) as labels, _TileProgress() as progress:
            predict_tiled(model, image, labels, checkpoint.normalisation, tiles, progress.update)
            labels.finish()


class _TileProgress:
    """Bar of the tiles of one image."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def update(self, done: int, total: int) -> None:
        """Shows that `done` of `total` tiles are labelled; first called before this command's first tile."""
        if self._progress is None:
            self._progress = Progress(sys.stderr, "predict", total, done=done)
        else:
            self._progress.update(done, "tiles")

    def __enter__(self) -> "_TileProgress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.clear()


def _tiles(arguments: argparse.Namespace, stride: int) -> TileSize:
    overlap = arguments.overlap
    if overlap is None:
        overlap = arguments.tile // _OVERLAP // stride * stride
    try:
        tiles = TileSize(arguments.tile, overlap)
        tiles.check(stride)
    except ValueError as error:  # which begins with the option's name
        raise ValueError(f"--{error}") from error
    return tiles


def _format(arguments: argparse.Namespace) -> str:
    return arguments.format or "png"


def _note(line: str) -> None:
    print(f"ladderseg: {line}", file=sys.stderr, flush=True)


def _reason(image: InputImage, error: Exception) -> str:
    if above_pixel_limit(error):
        return f"{error}; PNG, TIFF, .npy and Zarr images are read in windows, of any size; --max-pixels N reads others"
    return str(error) if str(image.path) in str(error) else f"{image}: {error}"
