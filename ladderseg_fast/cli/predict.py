"""`ladderseg predict` labels images with a trained model."""

import argparse
import gc
import sys
from pathlib import Path

from ..data import LabelSet, check_image_size, read_image
from ..engine import Checkpoint, SystemRefusal, build_model, load_checkpoint, predict_image, prediction_size
from ..engine.device import find_device
from ..engine.input_images import InputImage, find_images
from ..engine.legend import legend
from ..engine.overlay import write_labels, write_overlay, write_png
from ..engine.predict import SizeOrOwn
from ..engine.progress import Progress
from ..engine.refusals import refusals_named
from ..models import SegmentationModel
from .arguments import add_checkpoint, add_device, image_size_or_own, path
from .network_size import ShrunkImages, check_network_size

#: The classes' colours, for all overlays of a call.
_LEGEND, _LEGEND_WIDTH = "legend.png", 600


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "predict",
        help="label images with a trained model",
        description="Label images with the model of a training run.",
        epilog="Writes NAME_labels.png (8-bit class indices with a palette, in the image's size) into DIR for each "
        "image, and into the same subdirectories for images in subdirectories of a given directory. NAME keeps its "
        "ending if two images would have the same. The network sees an image in its own proportions, with as many "
        "pixels as the training images had, unless --size says otherwise. An image that cannot be used is reported "
        "and passed over: the others are still done, and the exit status is 2.",
    )
    add_checkpoint(parser, "checkpoint", "RUN")
    parser.add_argument(
        "images",
        type=path,
        nargs="+",
        metavar="IMAGE|DIRECTORY",
        help="an image in any format that Pillow reads, or a directory of images; ladders need at least 64x64 pixels",
    )
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="directory for the results")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="also label the images in subdirectories of a directory"
    )
    parser.add_argument(
        "--overlays",
        action="store_true",
        help=f"also write NAME_overlay.png, the class colours over the image, and {_LEGEND}, their legend",
    )
    parser.add_argument(
        "--size",
        type=image_size_or_own,
        metavar="HxW|own",
        help="height and width of the images for the network, or their own (default: as many pixels as in training)",
    )
    add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Labels every image; returns 0 if all could be used, else 2."""
    out: Path = arguments.out
    found = find_images(arguments.images, out, arguments.recursive)
    checkpoint = load_checkpoint(arguments.checkpoint)
    device = find_device(arguments.device)
    model = build_model(checkpoint, device)
    if isinstance(arguments.size, tuple):
        check_network_size(arguments.size, model.min_size)
    out.mkdir(parents=True, exist_ok=True)
    if arguments.overlays:
        _write_legend(out / _LEGEND, found.images, checkpoint.label_set)
    labelled = 0
    # Where the bar cannot be rewritten in place, the lines of the images say how far it is.
    with Progress(sys.stderr, "predict", len(found.images), plain_lines=0) as progress:
        for reason in found.unread:
            progress.note(f"ladderseg: error: {reason}")
        if found.others:
            progress.note(f"ladderseg: {found.others} files without an image's ending are left out")
        job = _Job(arguments, checkpoint, model, ShrunkImages(progress.note))
        for done, image in enumerate(found.images, start=1):
            refused = False
            try:
                with refusals_named():
                    written = job.label(image)
            except (OSError, ValueError, SystemRefusal) as error:
                named = str(error) if str(image.path) in str(error) else f"{image.path}: {error}"
                progress.note(f"ladderseg: error: {named}")
                refused = isinstance(error, SystemRefusal)
            else:
                progress.clear()
                print(f"{image.path}: {', '.join(map(str, written))}", flush=True)
                labelled += 1
            if refused:
                job.give_back()
            progress.update(done, "")
        job.shrunk.finish()
    print(f"labelled {labelled} of {len(found.images)} images on {device}")
    return 2 if found.unread or labelled < len(found.images) else 0


def _write_legend(file: Path, images: list[InputImage], label_set: LabelSet) -> None:
    if any(image.path.exists() and file.exists() and image.path.samefile(file) for image in images):
        raise ValueError(f"{file}, which shows the colours of the overlays, would overwrite an input image")
    write_png(file, legend(label_set, range(len(label_set)), _LEGEND_WIDTH))


class _Job:
    """Work to do on each image."""

    def __init__(
        self, arguments: argparse.Namespace, checkpoint: Checkpoint, model: SegmentationModel, shrunk: ShrunkImages
    ) -> None:
        self.shrunk = shrunk
        self._size: SizeOrOwn | None = arguments.size
        self._overlays: bool = arguments.overlays
        self._checkpoint, self._model = checkpoint, model

    def label(self, image: InputImage) -> list[Path]:
        """Writes the results for `image` and returns their paths.

        Raises:
            OSError, ValueError: the image cannot be used, or a result cannot be written.
            RuntimeError, MemoryError: the system refuses memory.
        """
        checkpoint, label_set = self._checkpoint, self._checkpoint.label_set
        pixels = read_image(image.path)
        size = pixels.shape[:2]
        check_image_size(image.path, size, self._model.min_size)
        if self._size is None:
            self.shrunk.add(image.path, size, prediction_size(size, checkpoint.size, self._model.min_size))
        labels = predict_image(self._model, pixels, checkpoint.normalisation, checkpoint.size, self._size)
        image.labels.parent.mkdir(parents=True, exist_ok=True)
        write_labels(image.labels, labels, label_set)
        if not self._overlays:
            return [image.labels]
        write_overlay(image.overlay, pixels, labels, label_set)
        return [image.labels, image.overlay]

    def give_back(self) -> None:
        """Releases the memory that an image needed beyond the usual, so that the next image can have it."""
        gc.collect()  # the error's frames, with all maps
        self._model.release_workspace()
