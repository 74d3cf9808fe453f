"""Whether a checkpoint can be continued from with a configuration and a data set."""

from pathlib import Path

from ..data import SegmentationDataset
from .checkpoint import Checkpoint
from .config import Config

#: Settings that may change when a run is resumed: they do not enter its result.
MAY_CHANGE = (
    "data.root",
    "data.sbd",
    "data.workers",
    "training.device",
    "output.directory",
    "output.evaluate_every",
    "output.checkpoint_every",
    "output.overlays",
    "output.tensorboard",
)


def check_same_training(path: Path, checkpoint: Checkpoint, config: Config, training_set: SegmentationDataset) -> None:
    """Raises ValueError unless the training that left `checkpoint` in `path` goes on with these.

    `config` must be resolved.
    """
    state = checkpoint.training_state
    if state is None:
        raise ValueError(
            f"{path} cannot be resumed: it holds weights only; training.init_from starts another training from them"
        )
    for section, table in config.as_tables().items():
        for key, value in table.items():
            # A setting that the release before did not have is at its default then.
            before = checkpoint.config.get(section, {}).get(key, value)
            if value != before and f"{section}.{key}" not in MAY_CHANGE:
                raise ValueError(
                    f"{section}.{key} cannot change from {before} to {value} when {path} is resumed; "
                    "training.init_from starts another training from its weights"
                )
    if checkpoint.label_set != training_set.label_set:
        raise ValueError(f"{path} cannot be resumed: the classes of the training split are no longer the same")
    if state["images"] != len(training_set):
        raise ValueError(
            f"{path} cannot be resumed: the training split had {state['images']} images, now it has {len(training_set)}"
        )
