"""Log of a run: one JSON object per line."""

import json
import os
from pathlib import Path

from ..atomic_file import atomic_write
from .log_record import Record, check_record


class RunLog:
    """Records of a run, in the file `path`. Each has a "kind":

    - "start" {config, version, git_revision, git_modified, threads, processes, class_weights, colours: {class: [red,
      green, blue]}}: the run begins. git_revision is the commit that is checked out in the working directory, None if
      there is none. processes is the number of those that train together.
    - "resume" {step, steps_before, config, version, git_revision, git_modified, threads, processes}: it goes on after
      `step` steps. steps_before was its length until then; config has the one from here on.
    - "step" {step, epoch, loss, learning_rate, seconds, data_wait_seconds, images_per_second, peak_memory_bytes}
    - "skip" {step, batch, loss, files}: after `step` steps, batch number `batch` was left out, because its loss was
      "nan", "inf" or "-inf".
    - "empty" {step, batch, files}: after `step` steps, no pixel of batch number `batch` counted in the loss, which is
      0 then: all are ignored, or of classes whose weight is 0.
    - "evaluation" {step, epoch, miou, pixel_accuracy, iou: {class: x or None}, confusion}: on the validation split.
    - "end" {step}: nothing is left to do, unless a "resume" follows, with a greater length.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        """Empties the file."""
        with atomic_write(self.path):
            pass

    def append(self, record: Record) -> None:
        """Adds one line, complete in the file when this returns.

        Raises:
            OSError: the file cannot be written; the message names it.
        """
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror}") from error

    def sync(self) -> None:
        """Forces appended records to the disk, so that a checkpoint is never ahead of the log.

        Raises:
            OSError: they cannot be written; the message names the file.
        """
        try:
            with open(self.path, "ab") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror}") from error

    def read(self) -> list[Record]:
        """All complete records; a last line that a killed process left unfinished is passed over.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: a line is not a record, see check_record; the message names the file and the line.
        """
        lines = self.path.read_bytes().split(b"\n")[:-1]
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                check_record(record)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{self.path}: not a log of ladderseg (line {number}: {error})") from error
            records.append(record)
        return records

    def cut(self, step: int, batch: int) -> list[Record]:
        """Drops the records after `step` steps and `batch` batches, and returns the rest.

        Raises:
            OSError: the file cannot be read or written.
            ValueError: a line is not a record, or the steps are not 1 to `step`.
        """
        kept = [record for record in self.read() if record.get("step", 0) <= step and record.get("batch", 0) <= batch]
        if [record["step"] for record in kept if record["kind"] == "step"] != list(range(1, step + 1)):
            raise ValueError(f"{self.path}: does not hold the {step} steps that the last checkpoint continues from")
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in kept).encode())
        return kept
