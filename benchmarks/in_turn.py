"""Measures several ways of doing one step, each in fresh processes of its own, in turn."""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from result_check import rejection
from subprocess_step import StepFailed, run_step


@dataclass(frozen=True)
class Variant:
    """One way of doing the step: the arguments of `script`, and the shared library it runs with."""

    name: str
    script: str
    arguments: tuple[str, ...]
    preload: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Medians of one variant, or why it has none."""

    method: str
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    """Most bytes that torch's allocator held, for tensors and between them; None on the CPU."""
    seconds: float | None = None
    failure: str | None = None


@dataclass
class Measurements:
    """Runs of each variant by name, the reasons for failures, and the variant that the others were checked against."""

    runs: dict[str, list[dict]]
    failures: dict[str, str] = field(default_factory=dict)
    reference: str | None = None

    def any_run(self) -> dict | None:
        return next((run for runs in self.runs.values() for run in runs), None)

    def outcome(self, name: str) -> Outcome:
        """Outcome of a variant; no number of a failed variant is quoted."""
        runs, failure = self.runs[name], self.failures.get(name)
        if failure is not None:
            return Outcome(name, failure=failure)
        peak_bytes = int(statistics.median(run["peak_bytes"] for run in runs))
        reserved = [run["reserved_bytes"] for run in runs if run["reserved_bytes"] is not None]
        reserved_bytes = int(statistics.median(reserved)) if reserved else None
        return Outcome(name, peak_bytes, reserved_bytes, statistics.median(run["seconds"] for run in runs))


def measure_in_turn(variants: Sequence[Variant], repeats: int) -> Measurements:
    """Runs the variants round robin, so that a change in the machine's load meets them all.

    The results of all later variants are checked against those of the first that runs. A variant that fails gets no
    more turns.
    """
    measured = Measurements({variant.name: [] for variant in variants})
    pace = Pace([variant.name for variant in variants] * repeats)
    with tempfile.TemporaryDirectory() as folder:
        reference_file = str(Path(folder) / "reference.pt")
        for repeat in range(repeats):
            for variant in variants:
                if variant.name in measured.failures:
                    continue
                start = time.monotonic()
                check = ["--save-reference" if measured.reference is None else "--reference", reference_file]
                _measure(variant, check, measured)
                pace.done(variant.name, time.monotonic() - start, variant.name in measured.failures)
                _show_progress(variant.name, f"{repeat + 1}/{repeats}", measured, pace)
    return measured


class Pace:
    """Estimates the rest from what each variant took so far; a variant that did not run yet takes the others' mean."""

    def __init__(self, names: Sequence[str]) -> None:
        self._left = list(names)
        self._seconds: dict[str, list[float]] = {}

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Notes that the next process of variant `name` took so many seconds; if it `failed`, no more will follow."""
        self._left.remove(name)
        if failed:
            self._left = [other for other in self._left if other != name]
        self._seconds.setdefault(name, []).append(seconds)

    def left(self) -> float:
        """Seconds left."""
        means = {name: statistics.mean(each) for name, each in self._seconds.items()}
        mean = statistics.mean(means.values())
        return sum(means.get(name, mean) for name in self._left)


def _measure(variant: Variant, check: list[str], measured: Measurements) -> None:
    try:
        run = run_step(variant.script, [*variant.arguments, *check], variant.preload)
    except StepFailed as error:
        measured.failures[variant.name] = str(error)
        return
    reason = rejection(run["errors"]) if "errors" in run else None
    if reason is not None:
        measured.failures[variant.name] = reason
    measured.reference = measured.reference or variant.name
    measured.runs[variant.name].append(run)


def _show_progress(name: str, turn: str, measured: Measurements, pace: Pace) -> None:
    result = measured.failures.get(name)
    if result is None:
        run = measured.runs[name][-1]
        result = f"{run['peak_bytes'] / 1e9:.2f} GB, {run['seconds']:.2f} s per step"
    left = round(pace.left())
    rest = f"  (about {left // 60}:{left % 60:02} left)" if left else ""
    print(f"{turn}  {name}: {result}{rest}", file=sys.stderr, flush=True)
