"""Processes that watch each other: here threads of one process, which beat a hundred times a second."""

import os
import threading
import time

import pytest
from torch.distributed import HashStore

from ladderseg_fast.engine import rank_watch
from ladderseg_fast.engine.rank_watch import RankWatch

GONE = "rank 1 (process"


@pytest.fixture
def ended(monkeypatch):
    """Exit statuses of the process, which goes on, and an event that says that there is one."""
    statuses, done = [], threading.Event()
    for name, value in (("_BEAT", 0.01), ("_PATIENCE", 40), ("_SHORT_PATIENCE", 8), ("_GRACE", 0.2)):
        monkeypatch.setattr(rank_watch, name, value)
    monkeypatch.setattr(os, "_exit", lambda status: (statuses.append(status), done.set()))
    return statuses, done


def start(size):
    store = HashStore()
    return [RankWatch(store, rank, size) for rank in range(size)]


def stop(watches):
    for watch in watches:
        watch.stop()


def test_all_are_well(ended):
    watches = start(3)
    time.sleep(1.0)
    stop(watches)
    assert ended[0] == []


def test_one_that_is_gone_is_named_to_all_and_stuck_ones_end(ended, capsys):
    first, second, third = start(3)
    time.sleep(0.1)
    second.stop()  # from here on it gives no sign
    end = time.monotonic() + 20
    while len(ended[0]) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert first.find_failure().startswith(GONE)
    assert third.find_failure() == first.find_failure()
    stop([first, third])
    assert ended[0] == [2, 2]
    said = capsys.readouterr().err
    assert f"ladderseg: error: {GONE} {os.getpid()} on " in said
    assert "; rank 0 ends, too" in said


def test_a_file_is_finished_before_the_process_ends(ended, capsys):
    (watch,) = start(1)
    watch.kept = lambda: "the last checkpoint is last.pt"
    with watch.writing():
        watch.report("rank 1: no space")
        time.sleep(0.7)  # longer than the grace
        assert ended[0] == []
    assert ended[1].wait(timeout=20)
    stop([watch])
    assert "error: rank 1: no space; the last checkpoint is last.pt; rank 0 ends, too" in capsys.readouterr().err


def test_a_file_that_is_never_finished_does_not_keep_the_process(ended, monkeypatch):
    monkeypatch.setattr(rank_watch, "_FILE", 0.5)
    (watch,) = start(1)
    with watch.writing():
        watch.report("rank 1: no space")
        assert ended[1].wait(timeout=20)
    stop([watch])


def test_once_a_call_has_failed_little_patience_is_left(ended, monkeypatch):
    monkeypatch.setattr(rank_watch, "_PATIENCE", 10**9)
    first, second = start(2)
    time.sleep(0.1)
    second.stop()
    first.leaving()
    assert first.find_failure().startswith(GONE)
    stop([first])
    assert ended[0] == [], "it was leaving"


def test_first_failure_is_that_of_all(ended):
    watches = start(3)
    for watch in watches:
        watch.leaving()
    watches[2].report("rank 2: no space")
    watches[1].report("rank 1: another")
    assert [watch.find_failure() for watch in watches] == ["rank 2: no space"] * 3
    stop(watches)


def test_waits_for_who_has_something_to_say(ended):
    first, second = start(2)
    assert not second.wait_until_left(0, seconds=0.05)
    first.left()
    assert second.wait_until_left(0, seconds=20.0)
    stop([first, second])


def test_nobody_waits_for_one_that_is_gone(ended):
    first, second = start(2)
    time.sleep(0.1)
    first.stop()
    second.leaving()
    assert second.find_failure().startswith("rank 0 (process")
    began = time.monotonic()
    assert not second.wait_until_left(0, seconds=60.0)
    assert time.monotonic() - began < 30
    stop([second])


def test_a_stuck_process_ends_where_the_run_cannot_be_read_any_more(ended, capsys):
    """Its file system may be what failed."""

    def kept():
        raise OSError("Stale file handle")

    (watch,) = start(1)
    watch.kept = kept
    watch.report("rank 1: no space left")
    assert ended[1].wait(20.0)
    watch.stop()
    assert "ladderseg: error: rank 1: no space left; rank 0 ends, too" in capsys.readouterr().err
