"""Result of a training so far."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from .run_log import Record


class Evaluation(NamedTuple):
    """Scores on the validation split after `step` steps."""

    step: int
    miou: float
    pixel_accuracy: float


@dataclass
class TrainingResult:
    """Course of a training, whatever processes it took."""

    losses: list[float] = field(default_factory=list)
    """Losses, one per step."""
    evaluations: list[Evaluation] = field(default_factory=list)
    """Evaluations in their order."""
    overlays: list[Path] = field(default_factory=list)
    ended: bool = False
    """Whether nothing is left to do."""

    @classmethod
    def from_records(cls, records: list[Record]) -> "TrainingResult":
        """Result from the steps and evaluations in a run's log."""
        result = cls()
        for record in records:
            if record["kind"] == "step":
                result.losses.append(record["loss"])
            elif record["kind"] == "evaluation":
                result.evaluations.append(Evaluation(record["step"], record["miou"], record["pixel_accuracy"]))
            elif record["kind"] in ("end", "resume"):
                # What has ended is resumed only if its length was changed.
                result.ended = record["kind"] == "end"
        return result

    @property
    def step(self) -> int:
        """Number of steps done."""
        return len(self.losses)

    @property
    def best(self) -> Evaluation | None:
        """Evaluation with the highest mIoU, the first of several."""
        return max(self.evaluations, key=lambda evaluation: evaluation.miou, default=None)

    @property
    def span(self) -> int:
        """Number of steps that `first_loss` and `last_loss` average over: a quarter of all, 50 at most."""
        return min(50, max(1, len(self.losses) // 4))

    @property
    def first_loss(self) -> float:
        """Mean loss of the first `span` steps."""
        return fmean(self.losses[: self.span])

    @property
    def last_loss(self) -> float:
        """Mean loss of the last `span` steps."""
        return fmean(self.losses[-self.span :])
