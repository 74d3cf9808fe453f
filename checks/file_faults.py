"""Damaged checkpoints, labels that change, read-only and full disks, clocks that jump: part of training_faults.py."""

import io
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import failing_calls
import torch
from PIL import Image
from support.damaged_files import check_damage, cuts, flips
from support.data_trees import make_folder, random_labels, save_labels
from support.tiny_training import differences, run_training, settings

from ladderseg_fast.data import open_data_set
from ladderseg_fast.engine import RunDirectory, load_checkpoint, save_checkpoint, train
from ladderseg_fast.engine.learner import Learner

#: A moment of a training: called before batch number `number`, from 1.
Moment = Callable[[int], None]

_SIZE = (64, 96)
#: Loader processes have read two batches in advance.
_STEPS = 10


@contextmanager
def before_batches(moment: Moment) -> Iterator[None]:
    """Block whose trainings call `moment` before each batch."""
    original, seen = Learner.add_batch, [0]

    def add_batch(self: Learner, images: torch.Tensor, labels: torch.Tensor) -> float:
        seen[0] += 1
        moment(seen[0])
        return original(self, images, labels)

    Learner.add_batch = add_batch  # type: ignore[method-assign]
    try:
        yield
    finally:
        Learner.add_batch = original  # type: ignore[method-assign]


def at(number: int, action: Callable[[], None]) -> Moment:
    """Returns a moment that does `action` before batch `number`."""
    return lambda batch: action() if batch == number else None


def check_checkpoints(directory: Path, bits: int) -> tuple[int, int]:
    """Flips `bits` bits of every byte of a small checkpoint, and cuts it at every length; counts refused and right.

    Raises:
        AssertionError: one was read wrongly, or refused without its name.
    """
    run_training(directory / "run", {"training.steps": 1})
    whole = load_checkpoint(RunDirectory(directory / "run").last)
    assert whole.training_state is not None
    # Every kind of content, but of a few kilobytes.
    state = {name: value for name, value in whole.state.items() if value.numel() < 20}
    learner = {"optimizer": {"state": {0: {"exp_avg": torch.randn(5)}}}, "gradients": {}, "class_weights": None}
    small = replace(whole, state=state, training_state=whole.training_state | {"learner": learner, "random": {}})
    path = directory / "small.pt"
    save_checkpoint(path, small)
    data = path.read_bytes()
    damaged = [each for seed in range(bits) for each in flips(data, 0, 0, seed)]
    damaged += [data[:length] for length in range(len(data))]
    print(f"  a checkpoint of {len(data)} bytes, damaged in {len(damaged)} ways", flush=True)

    def read(path: Path) -> object:
        loaded = load_checkpoint(path)
        assert replace(loaded, state={}, training_state=None) == replace(small, state={}, training_state=None)
        return {"state": loaded.state, "training_state": loaded.training_state}

    refused, right = check_damage(path, read, damaged)
    # The checkpoint of a real run, at random places: resumed, it is refused or the same training.
    last = directory / "run" / "last.pt"
    data = last.read_bytes()
    for each in (*flips(data, 40 * bits), *cuts(data, 20 * bits)):
        last.write_bytes(each)
        try:
            assert load_checkpoint(last).step == 1
            right += 1
        except ValueError as error:
            assert str(last) in str(error), error
            refused += 1
    return refused, right


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _other_size(path: Path) -> None:
    save_labels(path, random_labels([0, 7], (20, 20)))


def _unknown_class(path: Path) -> None:
    save_labels(path, random_labels([0, 9], (24, 32)))


def _photograph(path: Path) -> None:
    Image.new("L", (32, 24)).save(path, format="JPEG")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


LABEL_CHANGES: dict[str, Callable[[Path], None]] = {
    "is cut": _cut,
    "is empty": lambda path: path.write_bytes(b""),
    "vanishes": Path.unlink,
    "has another size": _other_size,
    "has an unknown class": _unknown_class,
    "becomes a photograph": _photograph,
    "becomes a folder": _folder,
}


def check_label_changes(directory: Path) -> Iterator[str]:
    """Yields problems of trainings whose label file changes between two epochs."""
    root = make_folder(directory / "data")
    label = root / "labels" / "train" / "b.png"
    whole = label.read_bytes()

    def training(run: str, resume: bool = False, workers: int = 0) -> None:
        config = settings(_ON_A_FOLDER | {"data.workers": workers})
        splits = [open_data_set("folder", root, split) for split in ("train", "val")]
        train(config, *splits, RunDirectory(directory / run), io.StringIO(), resume=resume)

    training("straight")
    for name, change in LABEL_CHANGES.items():
        for workers in (0, 1):
            run = f"{name}, {workers} loader processes".replace(" ", "-")
            where = f"a label file that {name}, {workers} loader processes"
            try:
                with before_batches(at(2, partial(change, label))):
                    training(run, workers=workers)
                yield f"{where}: the training did not notice"
            except (OSError, ValueError) as error:
                if str(label) not in str(error):
                    yield f"{where}: {error}"
            shutil.rmtree(label) if label.is_dir() else label.unlink(missing_ok=True)
            label.write_bytes(whole)
            try:
                training(run, resume=True)
            except Exception as error:
                yield f"{where}, put back: {type(error).__name__}: {error}"
                continue
            if differences(directory / run, directory / "straight"):
                yield f"{where}, put back: other bits"


#: Epochs of three images, in batches of two.
_ON_A_FOLDER = {
    "data.kind": "folder",
    "data.size": list(_SIZE),
    "training.steps": _STEPS,
    "output.evaluate_every": _STEPS,
}


@contextmanager
def mounted(path: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Block with a file system of its own at `path`; yields what changes its options.

    Raises:
        PermissionError: this user may not mount.
    """
    path.mkdir(exist_ok=True)
    result = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
    if result.returncode:
        raise PermissionError(result.stderr.decode())
    try:
        yield lambda options: _remount(path, options)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def _remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)


def check_disks(directory: Path, sizes: int) -> Iterator[str]:
    """Yields problems of trainings on disks that are too small by so many steps, and on read-only ones."""
    run_training(directory / "straight", {"output.checkpoint_every": 1})
    needed = sum(path.stat().st_size for path in (directory / "straight").rglob("*") if path.is_file())
    for number in range(sizes):
        size = 8 * 4096 + number * needed // sizes
        where = f"a disk of {size} bytes"
        with mounted(directory / "disk", str(size)) as remount:
            yield from _ends_well(where, directory, lambda: remount("size=64m"))
    with mounted(directory / "disk", "64m") as remount:
        remount("ro")
        yield from _ends_well("read-only at first", directory, lambda: remount("rw"))
    run = directory / "disk" / "run"
    with mounted(directory / "disk", "64m") as remount:
        try:
            with before_batches(at(3, stop)):
                run_training(run, {"output.checkpoint_every": 1})
        except OSError:
            remount("ro")
        if load_checkpoint(run).step != 2:
            yield "a read-only run is read wrongly"
        yield from _ends_well("read-only when resumed", directory, lambda: remount("rw"), resume=True)


def stop() -> None:
    """Ends a training between two batches."""
    raise OSError("stopped here")


def _ends_well(where: str, directory: Path, mend: Callable[[], None], resume: bool = False) -> Iterator[str]:
    """Yields problems of a training that must fail, and then, on the mended disk, end as the one in "straight"."""
    run = directory / "disk" / "run"
    try:
        run_training(run, {"output.checkpoint_every": 1}, resume=resume)
        yield f"{where}: no error"
    except OSError as error:
        if str(run) not in str(error):
            yield f"{where}: {error}"
    mend()
    try:
        run_training(run, {"output.checkpoint_every": 1}, resume=(run / "last.pt").exists())
    except Exception as error:
        yield f"{where}, mended: {type(error).__name__}: {error}"
        return
    if differences(run, directory / "straight"):
        yield f"{where}, mended: other bits"


def check_clock(directory: Path) -> Iterator[str]:
    """Yields problems of a training whose clock jumps before every batch, and whose files are from the future."""
    generator = random.Random(0)
    changes = {"output.checkpoint_every": 1, "output.tensorboard": True}
    run_training(directory / "straight", changes)

    def jump(number: int) -> None:
        failing_calls.shift_clock(generator.randrange(-10 * _YEAR, 10 * _YEAR))
        if number == 3:
            raise OSError("stopped here")

    try:
        with before_batches(jump):
            run_training(directory / "run", changes)
        yield "the training was not stopped"
    except OSError:
        pass
    for i, path in enumerate(sorted((directory / "run").rglob("*"))):
        moment = os.stat(path).st_mtime + (20 * _YEAR if i % 2 else -20 * _YEAR)
        os.utime(path, (moment, moment))
    try:
        run_training(directory / "run", changes, resume=True)
    finally:
        failing_calls.shift_clock(0)
    if differences(directory / "run", directory / "straight"):
        yield "a clock that jumps: other bits"
    for line in (directory / "run" / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "step" and not 0 <= record["data_wait_seconds"] <= record["seconds"] < 600:
            yield f"a clock that jumps: {record}"


_YEAR = 365 * 86_400
