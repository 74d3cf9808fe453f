"""Signals to the training and to the processes that load its images."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.tiny_training import differences, run_training

from ladderseg_fast.engine.interrupt import InterruptRequest, ignore_interrupts
from ladderseg_fast.engine.learner import Learner


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_is_a_request_and_the_second_acts(number):
    received = []
    before = signal.signal(number, lambda *arguments: received.append(number))
    try:
        with InterruptRequest() as interrupt:
            assert interrupt.pending is None
            os.kill(os.getpid(), number)
            assert (interrupt.pending, received) == (number, [])
            os.kill(os.getpid(), number)
            assert received == [number]
        os.kill(os.getpid(), number)
        assert received == [number, number]
    finally:
        signal.signal(number, before)


def test_in_another_thread_there_is_nothing_to_do():
    def enter():
        with InterruptRequest() as interrupt:
            seen.append((interrupt.pending, [signal.getsignal(number) for number in numbers]))

    numbers, seen = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP), []
    before = [signal.getsignal(number) for number in numbers]
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_signals_to_processes_that_load_images(monkeypatch, method):
    """The main process ends those that are not forked with a signal that they cannot tell from another one."""
    numbers = signal.SIGINT, signal.SIGHUP, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: method)
    monkeypatch.setattr("ladderseg_fast.engine.interrupt._end_after_main", lambda: None)  # here is no loader process
    try:
        ignore_interrupts(0)
        assert [signal.getsignal(number) for number in numbers[:2]] == [signal.SIG_IGN] * 2
        assert (signal.getsignal(signal.SIGTERM) is before[2]) == (method == "spawn")
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with InterruptRequest() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.pending is None
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="loader processes are not forked")
def test_signals_to_loader_processes_change_nothing(tmp_path, monkeypatch):
    signalled = []
    original = Learner.add_batch

    def add_batch(self, *arguments):
        for child in multiprocessing.active_children():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(child.pid, number)
            signalled.append(child.pid)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "add_batch", add_batch)
        run_training(tmp_path / "signalled", {"data.workers": 1})
    assert signalled
    run_training(tmp_path / "straight")
    assert differences(tmp_path / "signalled", tmp_path / "straight") == []


#: A loader that is still alive when Python ends, as after an error that nobody caught.
LEFT_OVER = """
from torch.utils.data import DataLoader
from ladderseg_fast.engine.interrupt import ignore_interrupts
left_over = iter(DataLoader(range(100), num_workers=1, worker_init_fn=ignore_interrupts))
print(next(left_over).item(), left_over._workers[0].pid, flush=True)
"""


def test_loader_processes_end_with_the_main_one(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", LEFT_OVER], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    first, pid = map(int, result.stdout.split())
    assert first == 0
    wait_for_the_end_of(pid)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_loader_processes_end_when_the_main_one_is_killed(tmp_path, method):
    """By default, processes are forked before Python 3.14, and forked by a server from it on."""
    program = f"import multiprocessing, time\nmultiprocessing.set_start_method({method!r}){LEFT_OVER}time.sleep(60)"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        _, pid = map(int, process.stdout.readline().split())
        process.kill()
        wait_for_the_end_of(pid)


def wait_for_the_end_of(process: int) -> None:
    deadline = time.monotonic() + 20.0
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
