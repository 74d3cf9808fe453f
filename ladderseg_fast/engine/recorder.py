"""Records of the events of a training, for the log and, if the configuration says so, for TensorBoard."""

import torch

from .._version import __version__
from .config import Config
from .distributed import World
from .git_revision import GitRevision
from .run_directory import RunDirectory
from .run_log import Record, RunLog
from .tensorboard import TensorBoardEvents

#: Numbers of a record that become events.
_STEP_EVENTS = ("loss", "learning_rate", "images_per_second", "peak_memory_bytes")
_EVALUATION_EVENTS = ("miou", "pixel_accuracy")


class Recorder:
    """Writes RunLog's records.

    Args:
        step: number of steps done before.
        world: the processes that train; the first one writes.

    Attributes:
        log: the file of the records.
    """

    def __init__(self, config: Config, run: RunDirectory, step: int, world: World) -> None:
        self._config = config
        self._world = world
        self.log = run.log
        self._log = RunLog(run.log)
        events = config.output.tensorboard and world.is_first
        self._events = TensorBoardEvents(run.tensorboard, step) if events else None

    def begin(self, kind: str, revision: GitRevision | None, **more: object) -> None:
        """Records that the run starts or continues: "start" or "resume"."""
        record: Record = {"kind": kind, **more, "config": self._config.as_tables(), "version": __version__}
        record["git_revision"], record["git_modified"] = revision or (None, None)
        self._append(record | {"threads": torch.get_num_threads(), "processes": self._world.size})

    def step(self, **values: object) -> None:
        """Records a finished step."""
        self._append({"kind": "step"} | values)
        self._add_events("train", values, _STEP_EVENTS)

    def skip(self, **values: object) -> None:
        """Records that a batch was left out."""
        self._append({"kind": "skip"} | values)

    def empty(self, **values: object) -> None:
        """Records a batch of which no pixel counted."""
        self._append({"kind": "empty"} | values)

    def evaluation(self, **values: object) -> None:
        """Records an evaluation of the validation split."""
        self._append({"kind": "evaluation"} | values)
        self._add_events("validation", values, _EVALUATION_EVENTS)

    def end(self, step: int) -> None:
        """Records that nothing is left to do."""
        self._append({"kind": "end", "step": step})
        self.sync()

    def sync(self) -> None:
        """Forces all records to the disk, so that a checkpoint written next is not ahead of them."""
        if self._world.is_first:
            self._log.sync()
        if self._events is not None:
            self._events.flush()

    def _append(self, record: Record) -> None:
        if self._world.is_first:
            self._log.append(record)

    def _add_events(self, group: str, values: Record, names: tuple[str, ...]) -> None:
        if self._events is not None:
            self._events.add(values["step"], {f"{group}/{name}": values[name] for name in names})
