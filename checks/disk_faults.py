"""Trainings whose disk fails at one of their calls: part of training_faults.py."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import failing_calls
from file_faults import at, before_batches, stop
from support.tiny_training import differences, run_training

from ladderseg_fast.engine import RunDirectory, load_checkpoint
from ladderseg_fast.engine.run_log import RunLog

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)

#: Two steps, a checkpoint after each, an evaluation after the second, overlays.
SETTINGS = {"training.steps": 2, "output.evaluate_every": 2, "output.checkpoint_every": 1}


def count_calls(directory: Path, resume: bool) -> int:
    """Number of the changes that a training makes below its directory."""
    _begin(directory, resume)
    with failing_calls.failing_file_call(directory, 0, errno.EIO) as calls:
        _train(directory, resume)
    return calls.count


def check_call(directory: Path, straight: Path, number: int, error: int, resume: bool) -> Iterator[str]:
    """Yields problems of a training whose call `number` fails with `error`, compared with one in `straight`."""
    _begin(directory, resume)
    descriptors = _descriptors()
    message = None
    with failing_calls.failing_file_call(directory, number, error) as calls:
        try:
            _train(directory, resume)
        except OSError as caught:
            message = str(caught)
    where = f"{errno.errorcode[error]} at call {number} ({calls.failed.replace(str(directory), 'RUN')})"
    if message is not None and (not calls.failed or str(directory) not in message or "\n" in message):
        yield f"{where}: the message is {message!r}"
    if _descriptors() > descriptors:
        yield f"{where}: {_descriptors() - descriptors} descriptors stay open"
    lock = directory / ".ladderseg.lock"
    if lock.exists():
        with open(lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield f"{where}: the directory stays locked"
                return
    run = RunDirectory(directory)
    step = 0
    for path in (run.best, run.last):
        if path.exists():
            try:
                step = load_checkpoint(path).step
            except (OSError, ValueError) as damage:
                yield f"{where}: {damage}"
    if message is None and step != SETTINGS["training.steps"]:
        yield f"{where}: the training did not end, and said nothing"
    try:
        # Without a checkpoint a new training may begin here, as if the directory were empty.
        run_training(directory, SETTINGS, resume=run.last.exists())
    except Exception as caught:
        yield f"{where}: then {type(caught).__name__}: {caught}"
        return
    wrong = differences(directory, straight)
    if wrong:
        yield f"{where}: afterwards {len(wrong)} tensors differ"
    if _history(run.log) != _history(straight / "log.jsonl"):
        yield f"{where}: afterwards the log has {_history(run.log)}"
    left = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    there = {str(path.relative_to(straight)) for path in straight.rglob("*")}
    if left != there:
        yield f"{where}: afterwards there are {sorted(left ^ there)}"
    try:
        run_training(directory, SETTINGS, overwrite=True) if number % 5 == 0 else run.check_free(overwrite=True)
    except Exception as caught:
        yield f"{where}: then a new training: {type(caught).__name__}: {caught}"


def straight_run(directory: Path) -> None:
    """The training that nothing happens to."""
    run_training(directory, SETTINGS)


def _history(log: Path) -> list[tuple[str, int]]:
    """Steps and evaluations of a log."""
    records = RunLog(log).read()
    return [(each["kind"], each["step"]) for each in records if each["kind"] in ("step", "evaluation")]


def _begin(directory: Path, resume: bool) -> None:
    """The directory in which the training starts: none, or one step of its two."""
    shutil.rmtree(directory, ignore_errors=True)
    if resume:
        try:
            with before_batches(at(2, stop)):
                run_training(directory, SETTINGS)
        except OSError:
            assert load_checkpoint(directory).step == 1


def _train(directory: Path, resume: bool) -> None:
    run_training(directory, SETTINGS, resume=resume)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
