"""What the system refuses or takes: the real errors in words, and a training that meets them."""

import errno
import gc
import io
import multiprocessing
import os
import re
import signal
import threading
from importlib import import_module

import numpy as np
import pytest
import torch
from support.data_trees import make_folder, random_labels, save_labels
from support.tiny_training import DrawnOnce, differences, run_training, settings

from ladderseg_fast.data import open_data_set
from ladderseg_fast.engine import Interrupted, RunDirectory, SystemRefusal, load_checkpoint, train
from ladderseg_fast.engine.interrupt import child_signals_held
from ladderseg_fast.engine.learner import Learner
from ladderseg_fast.engine.refusals import refusal
from ladderseg_fast.ops.layout import fresh_buffer

pytestmark = pytest.mark.real_use

#: Too much for any machine.
PIB = 1 << 50
MEMORY = {
    "numpy": lambda: np.empty(PIB, np.uint8),
    "torch": lambda: torch.empty(PIB, dtype=torch.uint8),
    "lean": lambda: fresh_buffer(PIB, torch.device("cpu")),
}


def error_of(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("no error")


def test_memory_that_is_refused():
    assert refusal(error_of(MEMORY["lean"])) == f"the system refused {PIB / 1e9:.2f} GB of memory"
    assert refusal(error_of(MEMORY["torch"])) == f"the system refused {PIB / 1e9:.2f} GB of memory"
    assert refusal(error_of(MEMORY["numpy"])) == "the system refused 1.00 PiB of memory"
    assert refusal(MemoryError()) == "the system refused memory"
    cuda = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB of which 0 is free."
    assert refusal(torch.cuda.OutOfMemoryError(cuda)) == "the system refused 2.00 GiB of memory"
    assert refusal(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))) == "the system refused memory"


def test_processes_and_threads_that_are_refused():
    assert refusal(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))) == "the system refused another process"
    assert refusal(RuntimeError("can't start new thread")) == "the system refused another thread"


def test_other_errors_are_not_refusals():
    for error in (RuntimeError("shape [2, 3] is invalid"), ValueError("memory"), OSError(errno.ENOSPC, "no space")):
        assert refusal(error) is None
    assert refusal(BlockingIOError("the run is in use")) is None


def failing_at(monkeypatch, batch, what):
    """`what` is done in the training's `batch`-th batch, counted from 1, before anything else of it."""
    original, seen = Learner.add_batch, []

    def add_batch(self, *arguments):
        seen.append(0)
        if len(seen) == batch:
            what()
        return original(self, *arguments)

    monkeypatch.setattr(Learner, "add_batch", add_batch)


def test_memory_refused_within_a_step(tmp_path, monkeypatch):
    """Its gradients are incomplete: the last checkpoint stays."""
    with monkeypatch.context() as patch:
        failing_at(patch, 4, MEMORY["torch"])
        message = r"the system refused .* of memory; the last checkpoint is .*last\.pt; a smaller training\.batch, data"
        with pytest.raises(SystemRefusal, match=message):
            run_training(tmp_path / "run")
    assert load_checkpoint(RunDirectory(tmp_path / "run").last).step == 3
    run_training(tmp_path / "run", resume=True)
    run_training(tmp_path / "straight")
    assert differences(tmp_path / "run", tmp_path / "straight") == []


def test_memory_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("ladderseg_fast.engine.learner.create_model", lambda *a, **o: MEMORY["numpy"]())
    with pytest.raises(SystemRefusal, match=r"the system refused 1\.00 PiB of memory"):
        run_training(tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Failing(DrawnOnce):
    """Street scenes of which the `read`-th that is read is an error."""

    def __init__(self, read, what):
        super().__init__(4, seed=0)
        self.left, self.what = read, what

    def __getitem__(self, index):
        self.left -= 1
        if self.left == 0:
            self.what()
        return super().__getitem__(index)


def unreadable():
    raise OSError("street.png: cannot read the image")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_fails_between_batches_is_saved(tmp_path, accumulate):
    """Memory for an image, or an image itself."""
    changes = {"training.accumulate": accumulate}
    saved = rf"saved .*last\.pt at step {2 // accumulate} of 5"
    stream = io.StringIO()
    with pytest.raises(SystemRefusal, match=rf"the system refused 1\.00 PiB of memory; {saved}; a smaller"):
        run_training(tmp_path / "memory", changes, Failing(6, MEMORY["numpy"]), stream)
    with pytest.raises(OSError, match=r"street\.png: cannot read the image"):
        run_training(tmp_path / "image", changes, Failing(6, unreadable), stream)
    assert len(re.findall(saved, stream.getvalue())) == 1
    run_training(tmp_path / "straight", changes)
    for name in ("memory", "image"):
        assert load_checkpoint(RunDirectory(tmp_path / name).last).training_state["batches"] == 2
        run_training(tmp_path / name, changes, resume=True)
        assert differences(tmp_path / name, tmp_path / "straight") == []


def test_what_cannot_be_saved_either_is_told(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("cannot write last.pt: No space left on device")

    # By its name: the package's attribute `train` is the function.
    monkeypatch.setattr(import_module("ladderseg_fast.engine.train"), "save_checkpoint", full)
    message = r"PiB of memory; step 2 could not be saved \(cannot write last\.pt: No space .*\); no checkpoint was"
    with pytest.raises(SystemRefusal, match=message):
        run_training(tmp_path / "run", training_set=Failing(6, MEMORY["numpy"]))


def test_full_disk_under_the_log_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    """The log would lack the step that a checkpoint continues from."""
    from ladderseg_fast.engine.recorder import Recorder

    original = Recorder.step

    def step(self, **values):
        if values["step"] == 5:
            raise OSError("cannot write log.jsonl: No space left on device")
        original(self, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", step)
        with pytest.raises(OSError, match=r"cannot write log\.jsonl"):
            run_training(tmp_path / "run")
    assert load_checkpoint(RunDirectory(tmp_path / "run").last).step == 3
    run_training(tmp_path / "run", resume=True)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="loader processes are not forked")
@pytest.mark.parametrize("moment", ["within a step", "between steps"])
def test_killed_loader_process(tmp_path, monkeypatch, moment):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    changes = {"data.workers": 1}

    def kill():
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
            child.join()

    with monkeypatch.context() as patch:
        if moment == "within a step":
            failing_at(patch, 2, kill)
        else:
            from ladderseg_fast.engine.progress import Progress

            def update(self, done, details):
                if done == 2:
                    kill()

            patch.setattr(Progress, "update", update)
        message = (
            r"the system ended a process that loads images.*, as it does where memory is short; "
            r"saved .*last\.pt at step 2 of 5; a smaller"
        )
        with pytest.raises(SystemRefusal, match=message):
            run_training(tmp_path / "run", changes)
    assert load_checkpoint(RunDirectory(tmp_path / "run").last).step == 2
    run_training(tmp_path / "run", changes, resume=True)
    run_training(tmp_path / "straight")
    assert differences(tmp_path / "run", tmp_path / "straight") == []


def test_end_of_a_child_is_handled_after_the_block():
    ended = []
    before = signal.signal(signal.SIGCHLD, lambda *arguments: ended.append(arguments))
    try:
        with child_signals_held():
            os.kill(os.getpid(), signal.SIGCHLD)
            assert ended == []
        assert len(ended) == 1
        with pytest.raises(ValueError), child_signals_held():
            os.kill(os.getpid(), signal.SIGCHLD)
            raise ValueError
        assert len(ended) == 1
        os.kill(os.getpid(), signal.SIGCHLD)
        assert len(ended) == 2
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_nobody_reads_the_progress(tmp_path):
    reading, writing = os.pipe()
    stream = open(writing, "w")

    def read():
        with open(reading) as pipe:
            for _ in range(2):
                pipe.readline()

    reader = threading.Thread(target=read)
    reader.start()
    message = r"nobody reads the progress any more \(Broken pipe\); saved .*last\.pt at step (\d) of 60$"
    with pytest.raises(SystemRefusal, match=message) as caught:
        run_training(tmp_path / "run", {"training.steps": 60, "output.evaluate_every": 60}, stream=stream)
    reader.join()
    step = int(re.search(message, str(caught.value))[1])
    assert load_checkpoint(RunDirectory(tmp_path / "run").last).step == step
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_interrupted_while_the_disk_is_full(tmp_path, monkeypatch):
    """The message says what is there, and the exit status stays that of the signal."""

    def full(*arguments):
        raise OSError("cannot write last.pt: No space left on device")

    def fill():
        monkeypatch.setattr(import_module("ladderseg_fast.engine.train"), "save_checkpoint", full)
        os.kill(os.getpid(), signal.SIGINT)

    failing_at(monkeypatch, 4, fill)
    message = r"^interrupted at step 4 of 5; cannot write last\.pt: No space .*; the last checkpoint is .*last\.pt$"
    with pytest.raises(Interrupted, match=message):
        run_training(tmp_path / "run")
    assert load_checkpoint(RunDirectory(tmp_path / "run").last).step == 3


def test_second_interrupt_names_the_last_checkpoint(tmp_path, monkeypatch):
    def interrupt_twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    failing_at(monkeypatch, 4, interrupt_twice)
    message = r"^interrupted at once, after step 3 of 5; the last checkpoint is .*last\.pt$"
    with pytest.raises(KeyboardInterrupt, match=message):
        run_training(tmp_path / "run")
    assert not (tmp_path / "run" / ".ladderseg.lock").exists()


def test_full_disk_under_the_curve(tmp_path, monkeypatch):
    """The evaluation counts as done once all of it is there."""

    def full(*arguments):
        raise OSError("cannot write curve.png: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(import_module("ladderseg_fast.engine.train"), "write_curve", full)
        with pytest.raises(OSError, match=r"cannot write curve\.png"):
            run_training(tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    assert not run.curve.exists()
    result = run_training(tmp_path / "run", resume=True)
    assert [each.step for each in result.evaluations] == [3, 5]
    assert run.curve.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "truncated|cannot|damaged"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: save_labels(path, random_labels([0, 9], (24, 32))), r"labels must be .*, found 9"),
        (lambda path: save_labels(path, random_labels([0, 7], (20, 20))), "20x20"),
    ],
    ids=["cut", "gone", "unknown class", "another size"],
)
def test_label_file_that_changes_between_epochs(tmp_path, monkeypatch, change, message):
    """The error names it, what was trained before is saved, and nothing is trained on it."""
    root = make_folder(tmp_path / "data")
    label = root / "labels" / "train" / "b.png"
    config = settings({"data.kind": "folder", "data.size": [64, 96], "output.evaluate_every": 5})
    splits = [open_data_set("folder", root, split) for split in ("train", "val")]
    failing_at(monkeypatch, 2, lambda: change(label))
    stream = io.StringIO()
    with pytest.raises((OSError, ValueError), match=rf"{re.escape(str(label))}.*({message})"):
        train(config, *splits, RunDirectory(tmp_path / "run"), stream)
    step = load_checkpoint(RunDirectory(tmp_path / "run").last).step
    assert 2 <= step < 5 and f"at step {step} of 5" in stream.getvalue()


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="loader processes are not forked")
def test_loader_processes_end_with_a_training_that_fails(tmp_path):
    """Not only when Python happens to look for cycles: each takes some hundred megabytes."""

    gc.collect()
    gc.disable()
    try:
        run_training(tmp_path / "run", {"data.workers": 1, "training.steps": 60}, Failing(6, unreadable))
    except OSError as error:
        assert "street.png" in str(error)
    else:
        pytest.fail("no error")
    finally:
        gc.enable()
    assert multiprocessing.active_children() == []


def test_event_files_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, "flush", full)
    with pytest.raises(OSError, match=r"cannot write .*run/tensorboard: No space left on device"):
        run_training(tmp_path / "run", {"output.tensorboard": True})
