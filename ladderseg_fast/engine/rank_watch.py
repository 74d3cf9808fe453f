"""Processes that watch each other's life through a store, so that none waits for one that is gone."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from torch.distributed import Store

from .terminal import show

#: Seconds between two signs of life.
_BEAT = 0.5
#: Looks at another process, `_BEAT` apart, after which it counts as gone if it gave no sign; and if a call to all
#: processes has failed already. Looks and not seconds, as this process may have been stopped for a while itself.
_PATIENCE, _SHORT_PATIENCE = 40, 8
#: Seconds in which the main thread may leave by itself once the run has failed. It cannot while a call that the failed
#: process will never answer keeps it. With the patience it is less than the 30 s that torchrun grants.
_GRACE = 5.0
#: Seconds in which a file that is being written may be finished after that.
_FILE = 60.0
#: Exit status of a process that is ended here.
_STATUS = 2


class RankWatch:
    """A thread that gives signs of life of process `rank` of `size`, and looks for those of others.

    Rank 0 watches all others, and these watch rank 0. The first failure that anyone reports or finds is the run's, and
    all learn it. A process that does not leave then is ended, with one line on stderr.

    Args:
        store: a connection of its own, as the thread uses it at any time.

    Attributes:
        kept: what that line says of the work that is not lost, if anything.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._watched = list(range(1, size)) if rank == 0 else [0]
        self._failure: str | None = None
        self.kept: Callable[[], str] | None = None
        self._writing = False
        self._failed, self._stopped, self._leaving = threading.Event(), threading.Event(), threading.Event()
        # The thread and the main thread share one connection, on which a call must not wait for another's answer.
        self._turn = threading.Lock()
        self._call(lambda: store.set(f"name/{rank}", f"process {os.getpid()} on {socket.gethostname()}"))
        self._thread = threading.Thread(target=self._run, name="rank watch", daemon=True)
        self._thread.start()

    def leaving(self) -> None:
        """Says that the main thread is on its way out, and may take its time."""
        self._leaving.set()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Block in which the main thread writes a file, which it may finish before this process is ended."""
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def report(self, text: str) -> None:
        """Makes `text` the run's failure, unless it has one."""
        self._call(lambda: self._store.compare_set("failure", "", text))

    def find_failure(self) -> str | None:
        """The run's failure, after a call to all processes has failed; None if none is found within the patience."""
        self._call(lambda: self._store.add("suspect", 1))
        self._failed.wait(_SHORT_PATIENCE * _BEAT + 10.0)
        return self._failure

    def left(self) -> None:
        """Tells the others that this process has saved and said what it had to."""
        self._call(lambda: self._store.set(f"left/{self._rank}", "1"))

    def wait_until_left(self, rank: int, seconds: float) -> bool:
        """Waits at most `seconds` for left() of the process `rank`; returns whether it came. One that is gone is not
        waited for.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            there = self._call(lambda: self._store.check([f"left/{rank}"]))
            gone = self._call(lambda: self._store.check([f"gone/{rank}"]))
            if there is None or there or gone:
                return bool(there)
            time.sleep(_BEAT / 5)
        return False

    def stop(self) -> None:
        """Ends the thread: from here on nobody counts on this process."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        beats = dict.fromkeys(self._watched, 0)
        silent = dict.fromkeys(self._watched, 0)
        while not self._stopped.wait(_BEAT):
            try:
                with self._turn:
                    found = self._look(beats, silent)
            except RuntimeError:  # the store is gone, and with it the process or launcher that held it
                if self._stopped.wait(_BEAT):
                    return
                found = "rank 0, or the launcher on its machine, which held the processes together, is gone"
            if found is not None:
                self._failure = found
                self._failed.set()
                self._end_if_stuck(found)
                return

    def _look(self, beats: dict[int, int], silent: dict[int, int]) -> str | None:
        """Gives a sign of life and takes those of the others; returns the run's failure if there is one."""
        self._store.add(f"beat/{self._rank}", 1)
        if self._store.check(["failure"]):
            return self._store.get("failure").decode()
        patience = _SHORT_PATIENCE if self._store.check(["suspect"]) else _PATIENCE
        for rank in self._watched:
            # Adding nothing reads the number, and makes it where there is none yet.
            beat = self._store.add(f"beat/{rank}", 0)
            if beat != beats[rank] or beat == 0 or self._store.check([f"left/{rank}"]):
                beats[rank], silent[rank] = beat, 0
            elif silent[rank] < patience:
                silent[rank] += 1
            else:
                name = self._store.get(f"name/{rank}").decode()
                self._store.set(f"gone/{rank}", "1")
                text = f"rank {rank} ({name}) is gone: it was killed, or its machine or network failed"
                return self._store.compare_set("failure", "", text).decode()
        return None

    def _end_if_stuck(self, failure: str) -> None:
        end = time.monotonic() + _FILE
        while time.monotonic() < end:
            writing = self._writing
            if self._stopped.wait(_GRACE) or self._leaving.is_set():
                return
            # Who has written a file meanwhile has the whole grace to leave, too.
            if not (writing or self._writing):
                break
        try:
            kept = "" if self.kept is None else f"; {self.kept()}"
        except OSError:  # the run's directory cannot be read any more, which may be why the run failed
            kept = ""
        with suppress(OSError):  # nobody reads stderr any more
            show(f"ladderseg: error: {failure}{kept}; rank {self._rank} ends, too", stream=sys.stderr)
        self.left()
        os._exit(_STATUS)

    def _call(self, function: Callable[[], object]) -> object:
        """Result of a call of the store; None if the store is gone."""
        try:
            with self._turn:
                return function()
        except RuntimeError:
            return None
