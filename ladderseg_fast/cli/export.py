"""`ladderseg export` writes a trained model to a file that other programs run."""

import argparse
import json

import torch

from ..engine import Checkpoint, RunDirectory, build_model, load_checkpoint
from ..engine.terminal import show
from ..models.export import OUTPUTS, Pixels, check_packages
from .arguments import add_checkpoint, path


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "export",
        help="write a trained model as an ONNX file",
        description="Write the model of a training run to an ONNX file, which onnxruntime, TensorRT and others run "
        "without this package. Batch, height and width of the images may vary.",
        epilog="The file takes pixels as they are, uint8 RGB [batch, channel, row, column] or the bands that the model "
        "was trained on, and normalises them. Names and colours of the classes, mean, deviation and size of the "
        "training images are in its metadata. "
        'Before it is written, onnxruntime runs it. Needs pip install "ladderseg_fast[onnx]".',
    )
    add_checkpoint(parser, "checkpoint", "RUN")
    parser.add_argument("file", type=path, metavar="FILE", help="the file to write, such as model.onnx")
    parser.add_argument(
        "--output",
        choices=OUTPUTS,
        default="labels",
        help="what it returns, at the images' size: class labels, or class scores (default: %(default)s)",
    )
    parser.add_argument(
        "--normalised", action="store_true", help="it takes images that are normalised already, in float32"
    )
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare the file, run by onnxruntime, with the model"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes the file."""
    check_packages(not arguments.no_check)
    if arguments.checkpoint.is_dir():
        RunDirectory(arguments.checkpoint).check_output(arguments.file)
    elif arguments.file.exists() and arguments.file.samefile(arguments.checkpoint):
        raise ValueError(f"{arguments.file} is the checkpoint itself, which would be lost: choose another file")
    checkpoint = load_checkpoint(arguments.checkpoint)
    model = build_model(checkpoint, torch.device("cpu"))
    normalisation = checkpoint.normalisation
    largest = normalisation.form.most
    pixels = None if arguments.normalised else Pixels(normalisation.mean, normalisation.std, largest)
    model.export_onnx(arguments.file, arguments.output, pixels, _facts(checkpoint), check=not arguments.no_check)
    checked = "not checked" if arguments.no_check else "onnxruntime computes what the model computes"
    show(f"written to {arguments.file}: {arguments.output} by {checkpoint.model}, {checked}")
    return 0


def _facts(checkpoint: Checkpoint) -> dict[str, str]:
    """Facts of the training for users of the file, as JSON."""
    facts = {
        "model": checkpoint.model,
        "training_steps": checkpoint.step,
        "class_names": checkpoint.label_set.names,
        "palette": checkpoint.label_set.palette,
        "training_size": checkpoint.size,
        "mean": checkpoint.normalisation.mean,
        "std": checkpoint.normalisation.std,
        "bits": checkpoint.normalisation.bits,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
