"""`ladderseg predict`: label images with a trained model."""

import argparse
import sys
from pathlib import Path

import numpy as np

from ..data import check_image_size, read_image
from ..engine import Checkpoint, build_model, load_checkpoint, predict_image
from ..engine.device import find_device
from ..engine.overlay import write_labels, write_overlay
from ..models import SegmentationModel


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "predict",
        help="label images with a trained model",
        description="Label images with the model of a training run.",
        epilog="For each IMAGE, DIR gets NAME_labels.png (8-bit class indices with a palette, in the image's size) and "
        "NAME_overlay.png. The network sees an image in its own proportions, with as many pixels as the training "
        "images had. An image that cannot be used is reported and passed over: the others are still done, and the "
        "exit status is 2.",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="RUN",
        help="directory that ladderseg train wrote, whose best checkpoint is taken; or a checkpoint",
    )
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="any format of Pillow; of a ladder at least 64x64",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory for the results")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Labels every image; 0 if all could be used, else 2."""
    out: Path = arguments.out
    _check_names(arguments.images, out)
    checkpoint = load_checkpoint(arguments.checkpoint)
    model = build_model(checkpoint, find_device(arguments.device))
    out.mkdir(parents=True, exist_ok=True)
    failures = 0
    for path in arguments.images:
        try:
            image = read_image(path)
            check_image_size(path, image.shape[:2], model.min_size)
        except (OSError, ValueError) as error:
            print(f"ladderseg: error: {error}", file=sys.stderr)
            failures += 1
            continue
        written = _write_prediction(path, image, model, checkpoint, out)
        print(f"{path}: {', '.join(map(str, written))}")
    return 2 if failures else 0


def _write_prediction(
    path: Path, image: np.ndarray, model: SegmentationModel, checkpoint: Checkpoint, out: Path
) -> tuple[Path, Path]:
    labels = predict_image(model, image, checkpoint.normalisation, checkpoint.size)
    label_path, overlay_path = output_paths(path, out)
    write_labels(label_path, labels, checkpoint.label_set)
    write_overlay(overlay_path, image, labels, checkpoint.label_set)
    return label_path, overlay_path


def output_paths(image: Path, out: Path) -> tuple[Path, Path]:
    """Where the labels and the overlay of `image` go."""
    return out / f"{image.stem}_labels.png", out / f"{image.stem}_overlay.png"


def _check_names(images: list[Path], out: Path) -> None:
    """Raises ValueError if two images would write the same file, or one would overwrite an image."""
    inputs = {path.resolve() for path in images}
    stems: dict[str, Path] = {}
    for path in images:
        if path.stem in stems:
            raise ValueError(f"{stems[path.stem]} and {path} would both be written to {output_paths(path, out)[0]}")
        stems[path.stem] = path
        for output in output_paths(path, out):
            if output.resolve() in inputs:
                raise ValueError(f"the result {output} of {path} would overwrite an input image")
