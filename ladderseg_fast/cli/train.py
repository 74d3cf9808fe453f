"""`ladderseg train`: train a model, evaluate it, leave a run directory."""

import argparse
import math
import sys
from pathlib import Path

from ..data import CamVid, SegmentationDataset, StreetScenes
from ..engine import RunDirectory, TrainingConfig, TrainingResult, format_bytes, peak_memory, train
from ..engine.device import find_device
from ..models import MEMORY_MODES
from ..nn import DENSENETS
from .arguments import image_size, non_negative_int, positive_float, positive_int

#: Images of the street scenes' two splits; they differ in the seed, so no street is in both.
_STREET_TRAINING, _STREET_VALIDATION = 256, 16

#: Size of the training images where --size is not given.
_DEFAULT_SIZE = {"street": (256, 512), "camvid": (360, 480)}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "train",
        help="train a model and evaluate it",
        description="Train a ladder DenseNet from random weights with Adam, poly decay of the learning rate "
        "(power 1.5) and random horizontal flips, then evaluate it. Without --data the images are street scenes "
        "that the program draws itself.",
        epilog="RUN gets checkpoint.pt, log.jsonl (a record per step and evaluation), curve.png and overlays/. "
        "mIoU is the mean over the classes that occur in the annotations or in a prediction, measured at --size. "
        "Ctrl-C saves a checkpoint and stops; a second Ctrl-C stops at once.",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", choices=sorted(_DEFAULT_SIZE), default="street", help="the images (default: %(default)s)"
    )
    data.add_argument(
        "--root", type=Path, metavar="DIR", help="where CamVid is: train.txt, train/, trainannot/, val.txt, ..."
    )
    data.add_argument(
        "--size", type=image_size, metavar="HxW", help="height and width to train at (default: 256x512; camvid 360x480)"
    )
    data.add_argument(
        "--workers",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="processes that load images (default: %(default)s)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", choices=sorted(DENSENETS), default="densenet121", help="backbone (default: %(default)s)"
    )
    model.add_argument(
        "--memory",
        choices=MEMORY_MODES,
        default="lean",
        help="lean training, or ordinary PyTorch modules (default: %(default)s)",
    )
    model.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    course = parser.add_argument_group("training")
    course.add_argument(
        "--batch", type=positive_int, default=2, metavar="N", help="images per step (default: %(default)s)"
    )
    length = course.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive_int, metavar="N", help="length of the training in steps")
    length.add_argument(
        "--epochs", type=positive_int, metavar="N", help="length in passes over the images (default: 1)"
    )
    course.add_argument(
        "--lr", type=positive_float, default=5e-4, metavar="X", help="first learning rate (default: %(default)s)"
    )
    course.add_argument("--seed", type=non_negative_int, default=0, metavar="N", help="default: %(default)s")
    course.add_argument(
        "--eval-every",
        type=positive_int,
        metavar="N",
        help="evaluate and save a checkpoint every N steps, and at the end (default: the steps of one epoch)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="directory for all that the run leaves behind"
    )
    output.add_argument("--overwrite", action="store_true", help="RUN may hold a checkpoint; it is replaced")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Trains as the arguments say and prints the summary."""
    size = arguments.size or _DEFAULT_SIZE[arguments.data]
    training_set, validation_set = _data_sets(arguments.data, arguments.root, size)
    epoch_steps = math.ceil(len(training_set) / arguments.batch)
    config = TrainingConfig(
        data=arguments.data,
        backbone=arguments.model,
        size=size,
        batch=arguments.batch,
        steps=arguments.steps or math.ceil((arguments.epochs or 1) * len(training_set) / arguments.batch),
        eval_every=arguments.eval_every or epoch_steps,
        learning_rate=arguments.lr,
        seed=arguments.seed,
        memory=arguments.memory,
        device=arguments.device,
        workers=arguments.workers,
    )
    device = find_device(config.device)
    directory = RunDirectory(arguments.out)
    directory.create(arguments.overwrite)
    result = train(config, training_set, validation_set, directory, sys.stderr)
    print(summary(config, result, directory, len(validation_set), peak_memory(device)))
    return 0


def summary(config: TrainingConfig, result: TrainingResult, directory: RunDirectory, images: int, peak: int) -> str:
    """The end of a run in a few plain lines; `images` is the size of the validation split, `peak` is in bytes."""
    height, width = config.size
    _, scores = result.evaluations[-1]
    kind = "allocated by torch" if config.device.startswith("cuda") else "of the process"
    span = f"{result.span} steps" if result.span > 1 else "step"
    files = f"{directory.checkpoint.name}, {directory.log.name}, {directory.curve.name}"
    return "\n".join(
        [
            f"trained {config.backbone} ({config.memory}) on {config.data} at {height}x{width}, "
            f"batch {config.batch}, {config.steps} steps",
            f"mean loss {result.first_loss:.3f} over the first {span}, {result.last_loss:.3f} over the last {span}",
            f"validation on {images} images: mIoU {scores.miou:.1%}, pixel accuracy {scores.pixel_accuracy:.1%}",
            f"peak memory {format_bytes(peak)} {kind}",
            f"written to {directory.path}: {files}, {directory.overlays.name}/ ({len(result.overlays)} images)",
        ]
    )


def _data_sets(data: str, root: Path | None, size: tuple[int, int]) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Training and validation split."""
    if data == "camvid":
        if root is None:
            raise ValueError("--data camvid needs --root DIR")
        return CamVid(root, "train"), CamVid(root, "val")
    if root is not None:
        raise ValueError("--root needs --data camvid: the street scenes are drawn, not read")
    return StreetScenes(_STREET_TRAINING, size, seed=0), StreetScenes(_STREET_VALIDATION, size, seed=1)
