"""Checkpoints: the weights, everything that is needed to predict with them, and the state to continue a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic_file import atomic_write
from ..data import RGB, LabelSet, Normalisation
from ..models import SegmentationModel, create_model
from ..models.state import load_state
from ..tensor_digest import tensor_digest
from ..torch_archive import load_torch_file
from .checkpoint_content import check_content
from .run_directory import RunDirectory

_FORMAT = "ladderseg checkpoint"
_VERSION = 2
#: Version for images of another form than RGB of 8 bits, which readers of version 2 do not know.
_VERSION_OF_BANDS = 3


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights after `step` training steps, with the facts needed to use them."""

    step: int
    model: str
    """Name of the model, as in list_models()."""
    memory: str
    label_set: LabelSet
    size: tuple[int, int]
    """(height, width) of the training images."""
    normalisation: Normalisation
    """Normalisation of the images, and so their form."""
    config: dict[str, Any]
    """The training's settings, for the record: sections of names to numbers, strings, lists, None."""
    state: dict[str, Tensor]
    """The model's state_dict, on the CPU when loaded; of averaged weights if the training averages."""
    training_state: dict[str, Any] | None = None
    """State that the training needs besides to continue exactly; None in a file for prediction only."""
    path: Path | None = field(default=None, compare=False)
    """The file that it was read from, for messages."""

    @property
    def source(self) -> str:
        """Name of the checkpoint in messages."""
        return "the checkpoint" if self.path is None else str(self.path)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint` so that a crash or a full disk leaves an earlier file at `path` intact.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION if checkpoint.normalisation.form == RGB else _VERSION_OF_BANDS,
        "step": checkpoint.step,
        "model": checkpoint.model,
        "memory": checkpoint.memory,
        "class_names": list(checkpoint.label_set.names),
        "palette": [list(colour) for colour in checkpoint.label_set.palette],
        "size": list(checkpoint.size),
        "mean": list(checkpoint.normalisation.mean),
        "std": list(checkpoint.normalisation.std),
        "bits": checkpoint.normalisation.bits,
        "config": checkpoint.config,
        "state": checkpoint.state,
        "training_state": checkpoint.training_state,
    }
    content["digest"] = _digest(content)
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch's archive writer reports a failed write in its own way, with the OSError as context.
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(str(error).splitlines()[0]) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a file of save_checkpoint; runs no code from it.

    Args:
        path: a file, or the directory of a run: then its best checkpoint, or the last one if none was evaluated yet.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the file is no checkpoint of this package, has a later format, or is damaged.
    """
    if path.is_dir():
        return _result_of(RunDirectory(path))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    checkpoint = checkpoint_in(load_torch_file(path), path)
    if checkpoint is None:
        raise ValueError(f"{path}: not a checkpoint of ladderseg")
    return checkpoint


def _result_of(run: RunDirectory) -> Checkpoint:
    """Checkpoint of `run` to predict with."""
    path = run.result
    try:
        return load_checkpoint(path)
    except ValueError as error:
        if path == run.last or not run.last.is_file():
            raise
        raise ValueError(f"{error}; {run.last} is the other checkpoint of this run") from error


def checkpoint_in(content: Any, path: Path) -> Checkpoint | None:
    """Checkpoint in the `content` that load_torch_file read from `path`; None if it is no checkpoint.

    Raises:
        ValueError: the format is later, or the content damaged or incomplete; the message names `path`.
    """
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    if content.get("version") not in (1, _VERSION, _VERSION_OF_BANDS):
        raise ValueError(
            f"{path}: checkpoint format {content.get('version')}, this release reads 1 to {_VERSION_OF_BANDS}"
        )
    # Files of release 0.1 have no digest, only the archive's checksums.
    if "digest" in content and content["digest"] != _digest(content):
        raise ValueError(f"{path}: damaged checkpoint (its tensors are not those that were written)")
    try:
        return _from_content(_upgraded(content) if content["version"] == 1 else content, path)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: incomplete checkpoint ({error})") from error


def build_model(checkpoint: Checkpoint, device: torch.device) -> SegmentationModel:
    """The checkpoint's model on `device`, in evaluation mode.

    Raises:
        ValueError: no such model exists, or the state does not fit it.
    """
    try:
        bands = checkpoint.normalisation.form.bands
        model = create_model(checkpoint.model, len(checkpoint.label_set), bands, memory=checkpoint.memory)
    except ValueError as error:
        raise ValueError(f"{checkpoint.source}: {error}") from error
    load_weights(model, checkpoint)
    return model.to(device).eval()


def load_weights(model: SegmentationModel, checkpoint: Checkpoint) -> None:
    """Copies the checkpoint's weights and statistics into `model`.

    Raises:
        ValueError: they do not fit.
    """
    try:
        load_state(model, checkpoint.state)
    except ValueError as error:
        raise ValueError(f"{checkpoint.source}: weights of {checkpoint.model} do not fit the model: {error}") from error


def _digest(content: dict[str, Any]) -> str:
    return tensor_digest({key: content.get(key) for key in ("state", "training_state")})


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Content of a format 1 file as format 2; format 1 had one kind of model and no state to continue from."""
    return content | {"model": f"ladder_{content['backbone']}", "config": content["training"], "training_state": None}


def _from_content(content: dict[str, Any], path: Path) -> Checkpoint:
    check_content(content)
    height, width = content["size"]
    names, colours = content["class_names"], content["palette"]
    return Checkpoint(
        step=content["step"],
        model=content["model"],
        memory=content["memory"],
        label_set=LabelSet(tuple(names), tuple(tuple(colour) for colour in colours)),
        size=(height, width),
        normalisation=Normalisation(tuple(content["mean"]), tuple(content["std"]), content.get("bits", RGB.bits)),
        config=content["config"],
        state=content["state"],
        training_state=content["training_state"],
        path=path,
    )
