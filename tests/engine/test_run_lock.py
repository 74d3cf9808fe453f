"""Two trainings and one directory."""

import errno
import fcntl
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from support.tiny_training import differences, run_training

from ladderseg_fast.engine import RunDirectory, run_lock
from ladderseg_fast.engine.learner import Learner
from ladderseg_fast.engine.run_lock import RunLock

pytestmark = pytest.mark.real_use

#: Holds the lock, and has a child that was forked since; then waits for ever. Few imports, for speed.
HOLDER = """
import os, sys, time, types
from pathlib import Path
engine = sys.modules["engine"] = types.ModuleType("engine")
engine.__path__ = [os.path.dirname(sys.argv[1])]
from engine.run_lock import RunLock
lock = RunLock(Path(sys.argv[2]), sys.stderr)
lock.__enter__()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".ladderseg.lock"


@pytest.fixture
def holder(path):
    command = [sys.executable, "-c", HOLDER, run_lock.__file__, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    os.kill(child, signal.SIGKILL)


def test_message_names_the_holder(path, holder):
    started = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}"
    message = rf"{re.escape(str(path.parent))} is in use by process {holder.pid} on {re.escape(socket.gethostname())}, "
    with pytest.raises(BlockingIOError, match=rf"{message}which started at {started}; wait until .*"):
        RunLock(path, sys.stderr).__enter__()
    assert path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 4096])
def test_message_when_the_holder_has_written_nothing_readable(path, holder, content):
    path.write_text(content)
    with pytest.raises(BlockingIOError, match="is in use by another process"):
        RunLock(path, sys.stderr).__enter__()


def test_killed_holder_leaves_it_though_its_child_lives(path, holder):
    holder.kill()
    holder.wait()
    deadline = time.monotonic() + 10.0
    while True:
        try:
            with RunLock(path, sys.stderr):
                break
        except BlockingIOError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not path.exists()


def test_lock_that_its_holder_removes_meanwhile(path, monkeypatch):
    """The file is opened, its holder ends and removes it, and the lock is taken, of a file without a name."""
    original, holders = fcntl.flock, [RunLock(path, sys.stderr)]
    holders[0].__enter__()

    def flock(*arguments):
        if holders:
            holders.pop().__exit__(None, None, None)
        return original(*arguments)

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    with RunLock(path, sys.stderr), pytest.raises(BlockingIOError):
        RunLock(path, sys.stderr).__enter__()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_file_system_without_locks_is_told(path, monkeypatch, number):
    def flock(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    stream = io.StringIO()
    with RunLock(path, stream):
        assert re.match(r"the file system of .* has no locks \(.*\): a second training .* noticed", stream.getvalue())
        assert "names process" not in stream.getvalue()
        with RunLock(path, stream):
            assert f"names process {os.getpid()} on " in stream.getvalue()


def test_lock_is_no_link(path, tmp_path):
    (tmp_path / "mine").write_text("mine")
    path.symlink_to("mine")
    with pytest.raises(OSError, match=r"cannot write .*\.ladderseg\.lock"):
        RunLock(path, sys.stderr).__enter__()
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}], ids=str)
def test_second_training_changes_nothing(tmp_path, monkeypatch, options):
    """While the first is at work on any of its batches, and while its checkpoint is being written."""
    original, refused = Learner.add_batch, []

    def add_batch(self, *arguments):
        partial = tmp_path / "run" / f".last.pt.{os.getpid()}.partial"
        partial.touch()
        with pytest.raises(BlockingIOError if options or not (tmp_path / "run" / "last.pt").exists() else OSError):
            run_training(tmp_path / "run", **options)
        refused.append(partial.exists())
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "add_batch", add_batch)
        run_training(tmp_path / "run")
    assert refused == [True] * 5
    run_training(tmp_path / "straight")
    assert differences(tmp_path / "run", tmp_path / "straight") == []
    log = RunDirectory(tmp_path / "run").log.read_text().splitlines()
    assert [json.loads(line)["kind"] for line in log].count("start") == 1
    assert not (tmp_path / "run" / ".ladderseg.lock").exists()


def test_lock_ends_with_the_training_also_if_it_fails(tmp_path, monkeypatch):
    def fail(self, *arguments):
        raise OSError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "add_batch", fail)
        with pytest.raises(OSError, match="no more"):
            run_training(tmp_path / "run")
    run_training(tmp_path / "run", resume=True)


def test_full_disk_leaves_no_lock(path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(run_lock.os, "pwrite", full)
        with pytest.raises(OSError, match=rf"cannot write {re.escape(str(path))}: No space left on device"):
            RunLock(path, sys.stderr).__enter__()
    with RunLock(path, sys.stderr):
        pass


def test_an_interrupt_while_the_holder_is_written_leaves_no_lock(path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_lock.os, "pwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            RunLock(path, sys.stderr).__enter__()
    assert not path.exists()


def test_a_lock_that_fails_for_another_reason(path, monkeypatch):
    def broken(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(run_lock.fcntl, "flock", broken)
    with pytest.raises(OSError, match=rf"cannot lock {re.escape(str(path))}: Input/output error"):
        RunLock(path, sys.stderr).__enter__()


def test_file_that_cannot_be_removed_locks_nothing(path, monkeypatch):
    """The disk has become read-only, say: the error of the training that ends says more."""

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "unlink", refuse)
        with RunLock(path, sys.stderr):
            pass
    assert path.exists()
    with RunLock(path, sys.stderr):
        pass
    assert not path.exists()
