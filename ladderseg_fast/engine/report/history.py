"""The log of a run in a form that is easy to draw."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..log_record import Record
from ..run_directory import RunDirectory
from ..run_log import RunLog

#: (epoch, value), in order.
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class RunHistory:
    """The course of one run so far.

    Logs of earlier releases lack fields; a missing one is None or empty.
    """

    name: str
    directory: RunDirectory
    settings: dict[str, Any]
    """Every setting, by "section.key", as the run last continued with it; logs of earlier releases have no sections."""
    version: str | None
    """Version of the package that began the run."""
    git_revision: str | None
    steps: list[Record]
    """Records of the steps, at least one: each has "step", "epoch" and "loss"."""
    evaluations: list[Record]
    """Records of the evaluations, each with "step", "epoch", "miou", "pixel_accuracy" and "iou"."""
    resumed: list[int]
    """Steps after which the run was interrupted and went on."""
    skipped: int
    """Batches that were left out because their loss was not finite."""
    empty: int
    """Batches of which no pixel counted."""
    colours: dict[str, list[int]]
    """(red, green, blue) of each class; empty in logs of earlier releases."""

    def points(self, key: str) -> Points:
        """Values of `key` in the steps that have it."""
        return [(record["epoch"], record[key]) for record in self.steps if record.get(key) is not None]

    def scores(self, key: str) -> Points:
        """Values of `key` in the evaluations that have it."""
        return [(record["epoch"], record[key]) for record in self.evaluations if record.get(key) is not None]

    def class_scores(self, name: str) -> Points:
        """IoU of the class `name` in each evaluation that has one."""
        return [(e["epoch"], e["iou"][name]) for e in self.evaluations if e["iou"].get(name) is not None]

    @property
    def best(self) -> Record | None:
        """Evaluation with the highest mIoU, the first of equal ones."""
        return max(self.evaluations, key=lambda evaluation: evaluation["miou"], default=None)

    @property
    def speed(self) -> Points:
        """Images per second of each step: as logged, otherwise from its seconds and the batch."""
        logged = self.points("images_per_second")
        images = self._images_per_step
        if logged or images is None:
            return logged
        return [(epoch, images / seconds) for epoch, seconds in self.points("seconds") if seconds > 0]

    @property
    def waiting(self) -> Points:
        """Share of each step's time, 0 to 1, that it waited for its images."""
        return [
            (record["epoch"], record["data_wait_seconds"] / record["seconds"])
            for record in self.steps
            if record.get("data_wait_seconds") is not None and record.get("seconds")
        ]

    @property
    def _images_per_step(self) -> int | None:
        batch = self.settings.get("training.batch", self.settings.get("batch"))
        accumulate = self.settings.get("training.accumulate", 1)
        # The settings may have come with somebody else's log.
        return batch * accumulate if isinstance(batch, int) and isinstance(accumulate, int) else None


def read_history(path: Path) -> RunHistory:
    """History of the run in the directory `path`.

    Raises:
        OSError: the log does not exist or cannot be read.
        ValueError: the log is not one of ladderseg, or holds no step yet.
    """
    directory = RunDirectory(path)
    if not directory.log.is_file():
        raise FileNotFoundError(f"{directory.log}: no such file (the log of a run)")
    records = RunLog(directory.log).read()
    by_kind: dict[str, list[Record]] = {}
    for record in records:
        by_kind.setdefault(record["kind"], []).append(record)
    steps, evaluations = by_kind.get("step", []), by_kind.get("evaluation", [])
    if not steps:
        raise ValueError(f"{directory.log}: holds no step yet")
    start = by_kind.get("start", [{}])[0]
    resumes = by_kind.get("resume", [])
    return RunHistory(
        name=path.resolve().name,
        directory=directory,
        settings=_settings(resumes[-1] if resumes and "config" in resumes[-1] else start),
        version=start.get("version"),
        git_revision=start.get("git_revision"),
        steps=steps,
        evaluations=evaluations,
        resumed=[record["step"] for record in resumes],
        skipped=len(by_kind.get("skip", [])),
        empty=len(by_kind.get("empty", [])),
        colours=start.get("colours", {}),
    )


def _settings(start: Record) -> dict[str, Any]:
    """Sections of keys as "section.key"; an earlier release logged the keys themselves."""
    if "config" not in start:
        return {key: value for key, value in start.items() if key != "kind"}
    return {f"{section}.{key}": value for section, table in start["config"].items() for key, value in table.items()}
