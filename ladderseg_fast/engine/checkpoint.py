"""Checkpoints: a model's state with all that predicting with it needs."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import LabelSet, Normalisation
from ..models import LadderDenseNet
from ..atomic_file import atomic_write

_FORMAT = "ladderseg checkpoint"
_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A model's parameters and buffers after `step` training steps, and what they mean."""

    step: int
    backbone: str
    memory: str
    label_set: LabelSet
    size: tuple[int, int]
    """(height, width) of the training images."""
    normalisation: Normalisation
    training: dict[str, Any]
    """The training's settings, for the record: names to numbers, strings, lists."""
    state: dict[str, Tensor]
    """LadderDenseNet's state_dict, on the CPU when loaded."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint` so that a crash or a full disk leaves an earlier file at `path` intact.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "step": checkpoint.step,
        "backbone": checkpoint.backbone,
        "memory": checkpoint.memory,
        "class_names": list(checkpoint.label_set.names),
        "palette": [list(colour) for colour in checkpoint.label_set.palette],
        "size": list(checkpoint.size),
        "mean": list(checkpoint.normalisation.mean),
        "std": list(checkpoint.normalisation.std),
        "training": checkpoint.training,
        "state": checkpoint.state,
    }
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch's archive writer reports a failed write in its own way, with the OSError as context.
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(str(error).splitlines()[0]) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what save_checkpoint wrote; runs no code from the file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: not a checkpoint of this package, of a later version, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch.load documents no exceptions: pickle's, zip's and its own occur
        raise ValueError(f"{path}: not a checkpoint of ladderseg ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path}: not a checkpoint of ladderseg")
    if content.get("version") != _VERSION:
        raise ValueError(f"{path}: checkpoint format {content.get('version')}, this release reads format {_VERSION}")
    try:
        return _from_content(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: incomplete checkpoint ({error})") from error


def build_model(checkpoint: Checkpoint, device: torch.device) -> LadderDenseNet:
    """The checkpoint's model on `device`, in evaluation mode.

    Raises:
        ValueError: the state does not fit the model.
    """
    model = LadderDenseNet(checkpoint.backbone, len(checkpoint.label_set), memory=checkpoint.memory)
    try:
        model.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint's state does not fit {checkpoint.backbone}") from error
    return model.to(device).eval()


def _check_archive(path: Path) -> None:
    """torch.load reads tensors without looking at their checksums, so damage would go unnoticed."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path}: not a checkpoint, or a truncated one") from error
    if damaged is not None:
        raise ValueError(f"{path}: damaged checkpoint (checksum of {damaged})")


def _from_content(content: dict[str, Any]) -> Checkpoint:
    height, width = content["size"]
    names, colours = content["class_names"], content["palette"]
    return Checkpoint(
        step=content["step"],
        backbone=content["backbone"],
        memory=content["memory"],
        label_set=LabelSet(tuple(names), tuple(tuple(colour) for colour in colours)),
        size=(height, width),
        normalisation=Normalisation(tuple(content["mean"]), tuple(content["std"])),
        training=content["training"],
        state=content["state"],
    )
