"""Files of benchmarks/results: what was measured on one device. results/README.md documents them."""

import datetime
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladderseg_fast.atomic_file import atomic_write
from ladderseg_fast.engine.git_revision import git_revision

FOLDER = Path(__file__).with_name("results")

#: Changes whenever a reader of the files would have to.
FORMAT = 1


@dataclass
class Measurement:
    """One measurement, or why there is none.

    kind: decides what `result` holds.
    options: what was measured: method, dtype, size, ...
    """

    name: str
    kind: str
    options: dict[str, Any]
    result: dict[str, Any] | None = None
    error: str | None = None
    wall_s: float | None = None


@dataclass
class Results:
    """Everything that was measured on one device, of one revision.

    device: name, capability, multiprocessors, memory_bytes.
    software: revision, torch, cuda, driver.
    date: "2030-12-31", or None if it is not known.
    """

    device: dict[str, Any]
    software: dict[str, Any]
    date: str | None
    remarks: list[str] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)

    def of_kind(self, kind: str, **options: Any) -> Iterator[Measurement]:
        """Successful measurements of a kind that were made with these options."""
        for each in self.measurements:
            if each.kind == kind and each.result is not None and options.items() <= each.options.items():
                yield each

    def save(self, path: Path) -> None:
        """Replaces `path`, atomically; a measurement is one line."""
        head = {"format": FORMAT, "device": self.device, "software": self.software, "date": self.date}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        lines.append(f'"remarks": {_list(json.dumps(remark) for remark in self.remarks)}')
        measurements = (
            json.dumps({k: v for k, v in vars(each).items() if v is not None}) for each in self.measurements
        )
        lines.append(f'"measurements": {_list(measurements)}')
        with atomic_write(path) as file:
            file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())

    @staticmethod
    def load(path: Path) -> "Results":
        """Reads a file that `save` has written.

        Raises:
            ValueError: its format is another one.
        """
        data = json.loads(path.read_text())
        if data.pop("format") != FORMAT:
            raise ValueError(f"{path}: expected format {FORMAT}")
        measurements = [Measurement(**each) for each in data.pop("measurements")]
        return Results(**data, measurements=measurements)


def todays_results(machine: dict[str, Any]) -> tuple[Results, Path]:
    """Results of this machine and day so far, and their file; `machine` is what train_step.machine returns."""
    device = {"name": machine["device"], "threads": machine["threads"]}
    path = FOLDER / file_name(device["name"], today())
    results = Results.load(path) if path.exists() else Results(device, {"torch": machine["torch"]}, today())
    results.software["revision"] = own_revision()
    return results, path


def today() -> str:
    """Date of a file, "2030-12-31"."""
    return datetime.date.today().isoformat()


def own_revision() -> str:
    """Revision of this repository; "unknown" if it is no clone."""
    return str(git_revision(FOLDER) or "unknown")


def file_name(device: str, suffix: str) -> str:
    """Name of the file of a device: ("NVIDIA H200", "2030-12-31") -> "h200_2030-12-31.json"."""
    slug = re.sub(r"[^a-z0-9]+", "_", device.lower().removeprefix("nvidia ")).strip("_")
    return f"{slug}_{suffix}.json"


def _list(items: Iterator[str]) -> str:
    text = ",\n".join(items)
    return f"[\n{text}\n]" if text else "[]"
