"""Whether a training can continue from a checkpoint with a configuration and a data set, and with the same bits."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..data import SegmentationDataset, data_set_options
from .checkpoint import Checkpoint
from .config import Config, decided

#: Settings that may change when a run is resumed, besides options that are paths: they do not enter its result.
MAY_CHANGE = (
    "data.root",
    "data.workers",
    "training.device",
    "training.cut_after",
    "output.directory",
    "output.evaluate_every",
    "output.checkpoint_every",
    "output.overlays",
    "output.tensorboard",
)

#: The setting that may change, too, but does enter the result: the learning rate of all steps to come follows it.
_LENGTH = "training.steps"


def length_before(checkpoint: Checkpoint, config: Config) -> int:
    """Length in steps of the training that left `checkpoint` and now continues with the resolved `config`."""
    steps: int = checkpoint.config.get("training", {}).get("steps", config.training.steps)
    return steps


def names_digest(samples: SegmentationDataset) -> str:
    """Digest of the names of `samples` in their order, which decides what a step sees."""
    digest = hashlib.sha256()
    for index in range(len(samples)):
        digest.update(samples.name(index).encode("utf-8", "backslashreplace") + b"\0")
    return digest.hexdigest()


def check_same_training(path: Path, checkpoint: Checkpoint, config: Config, training_set: SegmentationDataset) -> None:
    """Raises ValueError unless the training that left `checkpoint` in `path` continues with these.

    `config` must be resolved.
    """
    state = checkpoint.training_state
    if state is None:
        raise ValueError(
            f"{path} cannot be resumed: it holds weights only; training.init_from starts another training from them"
        )
    may_change = {
        *MAY_CHANGE,
        _LENGTH,
        *(f"data.{option.name}" for option in data_set_options() if option.type is Path),
    }
    for section, table in config.as_tables().items():
        for key, value in table.items():
            # A setting that the release before did not have is at its default then.
            before = checkpoint.config.get(section, {}).get(key, value)
            if value != before and f"{section}.{key}" not in may_change:
                raise ValueError(
                    f"{section}.{key} cannot change from {before} to {value} when {path} is resumed; "
                    "training.init_from starts another training from its weights"
                )
    steps = decided(config.training.steps)
    if steps < checkpoint.step:
        raise ValueError(
            f"{_LENGTH} must be at least {checkpoint.step} when {path} is resumed, which has done as many steps, "
            f"got {steps}"
        )
    if checkpoint.label_set != training_set.label_set:
        raise ValueError(f"{path} cannot be resumed: the classes of the training split are no longer the same")
    if state["images"] != len(training_set):
        raise ValueError(
            f"{path} cannot be resumed: the training split had {state['images']} images, now it has {len(training_set)}"
        )
    # A checkpoint of release 0.1 does not know the names.
    if state.get("names") not in (None, names_digest(training_set)):
        raise ValueError(
            f"{path} cannot be resumed: the training split has other images than before, or lists them in another "
            "order, which decides what each step sees; training.init_from starts another training from its weights"
        )


def other_roundings(path: Path, state: Mapping[str, Any], config: Config, processes: int) -> Iterator[str]:
    """Sentences about why the result will differ in rounding from that of the training that left `state` in `path`.

    `processes` continue it with `config`.
    """
    before, now = state["threads"], torch.get_num_threads()
    if before != now:
        yield f"{path} was written with {before} threads, now there are {now}: the last bits will differ"
    before, now = state.get("processes", 1), processes
    if before != now:
        text = (
            f"{path} was written by {before} {'process' if before == 1 else 'processes'}, now there are {now}: each "
            "batch has the same images, but the last bits will differ"
        )
        own = not (config.training.sync_bn or config.model.frozen_bn)
        yield f"{text}, and batch norm sees other shares of a batch" if own else text
