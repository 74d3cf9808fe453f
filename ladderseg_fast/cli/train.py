"""`ladderseg train` trains a model, evaluates it, and leaves a run directory."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from ..data import DATA_SETS, SegmentationDataset
from ..engine import Config, RunDirectory, TrainingResult, train
from ..engine.config import decided
from ..engine.config_tables import Layer, build_config, parse_assignments, read_config_file
from ..engine.device import find_devices
from ..engine.distributed import World, joined
from ..engine.image_statistics import with_form
from ..engine.loaders import open_splits
from ..engine.terminal import show
from ..engine.typical_size import typical_size
from ..memory import format_bytes, peak_memory
from .arguments import (
    add_cut_after,
    add_data_options,
    add_device,
    add_image_form,
    add_workers,
    image_size,
    model_name,
    non_negative_int,
    path,
    positive_float,
    positive_int,
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "train",
        help="train a model and evaluate it",
        description="Train a model and evaluate it. The default is the paper's recipe: a ladder DenseNet-121, Adam, "
        "poly decay of the learning rate (power 1.5), batch 2, 0.7 main and 0.3 auxiliary loss, random horizontal "
        "flips. Without --data the images are street scenes that the program draws itself.",
        epilog="RUN gets config.toml (all settings), last.pt and best.pt (checkpoints), log.jsonl (a record per step "
        "and evaluation), curve.png and overlays/. mIoU is the mean over the classes that occur in the annotations or "
        "in a prediction, measured at --size. Ctrl-C, SIGTERM and SIGHUP save a checkpoint and stop; a second one "
        "stops at once. --resume goes on from the last checkpoint.",
        # What was not given is not there, so that it covers nothing of the configuration file.
        argument_default=argparse.SUPPRESS,
    )
    _add_sources(parser.add_argument_group("settings"))
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_output(parser.add_argument_group("output"))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Trains as the arguments say and prints the summary."""
    with joined() as world:
        return _train(arguments, world)


def _train(arguments: argparse.Namespace, world: World) -> int:
    stream = world.stream(sys.stderr)
    resume = arguments.resume is not None
    # The others may not see the directory of the run.
    config = world.first(lambda: read_settings(arguments))
    training_set, validation_set = open_splits(config.data)
    if not resume and validation_set.whole:
        show(split_in_words(config, len(training_set), len(validation_set)), stream=stream)
    config = with_form(config, training_set, validation_set)
    config = with_size(config, training_set, stream).resolved(len(training_set), world.size, world.local_size)
    directory = RunDirectory(Path(decided(config.output.directory)))
    result = train(
        config,
        training_set,
        validation_set,
        directory,
        sys.stderr,
        overwrite=arguments.overwrite,
        resume=resume,
        world=world,
    )
    peak = max(map(peak_memory, find_devices(config.training.device)))
    if world.is_first:
        show(summary(config, result, directory, len(validation_set), peak))
    return 0


def split_in_words(config: Config, training: int, validation: int) -> str:
    """Sentence about a folder without splits: how many of its images are for training and how many for validation."""
    data = config.data
    how = f"by their names ({', '.join(f'data.{name} = {value}' for name, value in data.options.items())})"
    sizes = f"{training} images of {data.train_split!r}, {validation} of {data.val_split!r}"
    return f"{data.root} has no splits: {sizes}, chosen {how}"


def with_size(config: Config, training_set: SegmentationDataset, stream: TextIO) -> Config:
    """Gives `config` a size that suits the training images, and says so on `stream`, if it has no size."""
    if config.data.size is not None or config.data.data_set.default_size is not None:
        return config
    size, own = typical_size(training_set)
    show(
        f"data.size (--size) is not set: training at {size[0]}x{size[1]}, as the median size of the images is "
        f"{own[0]}x{own[1]} (height x width)",
        stream=stream,
    )
    return replace(config, data=replace(config.data, size=size))


def read_settings(arguments: argparse.Namespace) -> Config:
    """Settings of the configuration file, or of the run to resume, overridden by those of the command line.

    Raises:
        OSError: the file cannot be read.
        ValueError: a setting is unknown or wrong, no directory is given, or options exclude each other.
    """
    # Options that are keys of the configuration have their dotted names.
    flags = {key: value for key, value in vars(arguments).items() if "." in key}
    layers = [Layer("the command line", flags), parse_assignments(arguments.assignments)]
    if arguments.resume is not None:
        for name, given in (
            ("--config", arguments.config is not None),
            ("--out", "output.directory" in flags),
            ("--overwrite", arguments.overwrite),
        ):
            if given:
                raise ValueError(f"{name} and --resume exclude each other: a run is resumed with its own settings")
        file = RunDirectory(arguments.resume).config
        layers = [read_config_file(file), *layers, Layer("--resume", {"output.directory": str(arguments.resume)})]
    elif arguments.config is not None:
        layers = [read_config_file(arguments.config), *layers]
    config = build_config(layers)
    if config.output.directory is None:
        raise ValueError("no directory for the run: --out RUN is needed, or output.directory in the configuration file")
    return config


def summary(config: Config, result: TrainingResult, directory: RunDirectory, images: int, peak: int) -> str:
    """Summary of a finished run in a few plain lines; `images` is the size of the validation split, `peak` in bytes."""
    training, model = config.training, config.model
    height, width = decided(config.data.size)
    last, best = result.evaluations[-1], result.best
    assert best is not None, "a training ends with an evaluation"
    kind = "allocated by torch" if training.device.startswith("cuda") else "of the process"
    span = f"{result.span} steps" if result.span > 1 else "step"
    files = ", ".join(path.name for path in (directory.last, directory.best, directory.log, directory.curve))
    return "\n".join(
        [
            f"trained {model.name} ({model.memory}) on {config.data.kind} at {height}x{width}, "
            f"batch {training.batch}, {training.steps} steps, on {training.device}",
            f"mean loss {result.first_loss:.3f} over the first {span}, {result.last_loss:.3f} over the last {span}",
            f"validation on {images} images: mIoU {last.miou:.1%}, pixel accuracy {last.pixel_accuracy:.1%}; "
            f"best mIoU {best.miou:.1%} after step {best.step}",
            f"peak memory {format_bytes(peak)} {kind}",
            f"written to {directory.path}: {files}, {directory.overlays.name}/ ({len(result.overlays)} images)",
        ]
    )


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--config", type=path, default=None, metavar="FILE", help="TOML file of settings; other options override it"
    )
    group.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="any setting, such as training.optimizer=sgd; docs/training.md lists them; may be repeated",
    )
    group.add_argument(
        "--resume",
        type=path,
        default=None,
        metavar="RUN",
        help="continue the run in RUN with its own settings, optionally to another length",
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", dest="data.kind", choices=tuple(DATA_SETS), help="the images (default: street)")
    group.add_argument("--root", dest="data.root", metavar="DIR", help="directory of the data set")
    add_data_options(group)
    sizes = ", ".join(
        f"{kind.name} {kind.default_size[0]}x{kind.default_size[1]}"
        for kind in DATA_SETS.values()
        if kind.default_size is not None
    )
    group.add_argument(
        "--size",
        dest="data.size",
        type=image_size,
        metavar="HxW",
        help=f"height and width to train at (default: {sizes}; else chosen by the images)",
    )
    add_image_form(group, "data.", argparse.SUPPRESS)
    add_workers(group, "data.workers", argparse.SUPPRESS)


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        dest="model.name",
        type=model_name,
        metavar="NAME",
        help="a model's name; that of a backbone, such as densenet169, is its ladder (default: densenet121)",
    )
    group.add_argument(
        "--weights",
        dest="model.weights",
        metavar="FILE",
        help="pretrained weights of the encoder: imagenet, or a file",
    )
    group.add_argument(
        "--memory",
        dest="model.memory",
        metavar="MODE",
        help="lean training; or plain: ordinary PyTorch modules; or a budget such as 8GiB, which a lean step is "
        "planned into (default: lean)",
    )
    add_device(group, "training.device", argparse.SUPPRESS, several=True)
    add_cut_after(group, "training.cut_after", argparse.SUPPRESS)


def _add_training(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--batch",
        dest="training.batch",
        type=positive_int,
        metavar="N",
        help="images per forward pass, of all processes together (default: 2)",
    )
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", dest="training.steps", type=positive_int, metavar="N", help="length of the training in steps"
    )
    length.add_argument(
        "--epochs",
        dest="training.epochs",
        type=positive_int,
        metavar="N",
        help="length in passes over the images (default: 1)",
    )
    group.add_argument(
        "--lr",
        dest="training.learning_rate",
        type=positive_float,
        metavar="X",
        help="first learning rate (default: 0.0005)",
    )
    group.add_argument(
        "--init-from",
        dest="training.init_from",
        metavar="RUN",
        help="start from those weights of another run, a checkpoint or an encoder that fit",
    )
    group.add_argument(
        "--sync-bn",
        dest="training.sync_bn",
        action="store_true",
        help="under torchrun: batch norm's statistics are those of the whole batch, not of each process's share",
    )
    group.add_argument("--seed", dest="training.seed", type=non_negative_int, metavar="N", help="default: 0")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--out", dest="output.directory", metavar="RUN", help="directory for everything that the run writes"
    )
    group.add_argument("--overwrite", action="store_true", default=False, help="replace an earlier run in RUN")
    group.add_argument(
        "--eval-every",
        dest="output.evaluate_every",
        type=positive_int,
        metavar="N",
        help="evaluate and save a checkpoint every N steps, and at the end (default: the steps of one epoch)",
    )
    group.add_argument(
        "--checkpoint-every",
        dest="output.checkpoint_every",
        type=positive_int,
        metavar="N",
        help="also save a checkpoint every N steps",
    )
    group.add_argument(
        "--tensorboard",
        dest="output.tensorboard",
        action="store_true",
        help='write TensorBoard events, with the extra "tensorboard"',
    )
