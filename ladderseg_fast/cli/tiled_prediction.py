"""Results for images that are too large for memory: `ladderseg predict --tile`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from ..data import above_pixel_limit
from ..engine import Checkpoint
from ..engine.errors import SystemRefusal
from ..engine.input_images import InputImage
from ..engine.progress import Progress
from ..engine.refusals import refusals_named
from ..engine.terminal import in_one_line, show
from ..engine.tiled import FORMATS, KINDS, TiledImage, TileSize, open_results, open_windows, predict_tiled
from ..engine.tiled.results import result_endings
from ..engine.tiled.settings import image_settings, prediction_settings
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
        f"tile, in memory that does not depend on their height. --write {','.join(KINDS)} can be written so. An "
        "interrupted command, given again, continues.",
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
    group.add_argument(
        "--format", choices=FORMATS, help="of labels, overlays and colours: png (default), tiff in tiles, or npy"
    )


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
    for kind in arguments.write:
        if kind not in KINDS:
            raise ValueError(f"--write {kind} cannot go with --tile, which writes in strips: {', '.join(KINDS)}")


def tiled_endings(arguments: argparse.Namespace) -> list[str]:
    """Ends of the names of results with --tile."""
    return result_endings(arguments.write, _format(arguments))


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
    settings, labelled = prediction_settings(checkpoint, tiles), 0
    for image in images:
        outputs = ", ".join(str(image.output(ending)) for ending in tiled_endings(arguments))
        try:
            with refusals_named():
                _label(arguments, image, checkpoint, model, tiles, settings)
        except (OSError, ValueError, SystemRefusal, MissingPackageError) as error:
            _note(f"error: {_reason(image, error)}")
        except KeyboardInterrupt:
            _note(f"{outputs}: unfinished; the same command continues it")
            raise
        else:
            show(in_one_line(f"{image}: {outputs}"))
            labelled += 1
    return labelled


def _label(
    arguments: argparse.Namespace,
    image: InputImage,
    checkpoint: Checkpoint,
    model: SegmentationModel,
    tiles: TileSize,
    settings: Mapping[str, Any],
) -> None:
    normalisation = checkpoint.normalisation
    settings = {**settings, **image_settings(image.path)}
    with closing(open_windows(image.path, normalisation.form)) as windows:
        source = TiledImage(image.path, windows, normalisation.form)
        image.result.parent.mkdir(parents=True, exist_ok=True)
        with (
            open_results(
                image.output, arguments.write, _format(arguments), source, checkpoint.label_set, settings, _note
            ) as results,
            _TileProgress() as progress,
        ):
            predict_tiled(model, windows, results, normalisation, tiles, progress.update, arguments.batch)
            results.finish()


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
    show(f"ladderseg: {line}", stream=sys.stderr)


def _reason(image: InputImage, error: Exception) -> str:
    if above_pixel_limit(error):
        return f"{error}; PNG, TIFF, .npy and Zarr images are read in windows, of any size; --max-pixels N reads others"
    return str(error) if str(image.path) in str(error) else f"{image}: {error}"
