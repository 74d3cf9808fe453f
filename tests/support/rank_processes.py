"""Processes with ranks that run commands of `ladderseg` together, one after the other, as torchrun would start them."""

import contextlib
import errno
import io
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from support.processes import run_each
from support.tiny_training import register_tiny_model, scenes_drawn_once
from torch.distributed import TCPStore

from ladderseg_fast.cli import evaluate, train
from ladderseg_fast.cli.main import main
from ladderseg_fast.data import StreetScenes
from ladderseg_fast.engine import class_weights
from ladderseg_fast.engine.learner import Learner
from ladderseg_fast.engine.run_log import RunLog


@dataclass(frozen=True)
class Command:
    """Arguments of `ladderseg`, and a fault in one process: its rank (None: all), what happens, and in which batch or
    call.
    """

    arguments: list[str]
    fault: tuple[int | None, str, int] | None = None


@dataclass(frozen=True)
class Ended:
    """What one process made of a command."""

    status: int | str
    output: str
    errors: str


def run_ranks(size: int, commands: Sequence[Command]) -> list[list[Ended]]:
    """What each command came to, by rank, in `size` processes."""
    # Like torchrun's agent, this process holds the store.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": store.port,
        "TORCHELASTIC_USE_AGENT_STORE": True,
    }
    ended = run_each(_work, [({**shared, "RANK": rank, "LOCAL_RANK": rank}, commands) for rank in range(size)])
    return [list(ends) for ends in zip(*ended, strict=True)]


def _work(environment: dict[str, Any], commands: Sequence[Command]) -> list[Ended]:
    """Runs the commands in this process."""
    os.environ |= {name: str(value) for name, value in environment.items()}
    register_tiny_model()
    ended = []
    with scenes_drawn_once():
        for command in commands:
            with _fault(command.fault):
                ended.append(_run(command.arguments))
    return ended


def _run(arguments: list[str]) -> Ended:
    handler = signal.getsignal(signal.SIGTERM)
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status: Any = main(arguments)
        except SystemExit as end:
            status = end.code
        except KeyError as bug:
            status = type(bug).__name__
    signal.signal(signal.SIGTERM, handler)
    return Ended(status, output.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _fault(fault: tuple[int | None, str, int] | None) -> Iterator[None]:
    """Block in which, in this process, something goes wrong at a certain call."""
    if fault is None or fault[0] not in (None, int(os.environ["RANK"])):
        yield
        return
    _, what, at = fault
    faults: dict[str, tuple[Any, str]] = {
        "signal": (Learner, "add_batch"),
        "signal while counting": (class_weights, "_pixel_counts"),
        "full disk": (RunLog, "append"),
        "broken image": (StreetScenes, "__getitem__"),
        "bug": (Learner, "update"),
        "not a number": (Learner, "add_batch"),
        "no settings": (train, "read_settings"),
        "Ctrl-C": (evaluate, "open_data_set"),
        "no checkpoint": (evaluate, "load_checkpoint"),
    }
    owner, name = faults[what]
    original, calls = getattr(owner, name), []

    def faulty(self: Any, *arguments: Any) -> Any:
        calls.append(0)
        if len(calls) == at:
            if what == "full disk":
                raise OSError(errno.ENOSPC, "cannot write the log: No space left on device")
            if what == "broken image":
                raise ValueError("frame.png: truncated file")
            if what == "bug":
                raise KeyError("a bug")
            if what == "Ctrl-C":
                raise KeyboardInterrupt
            if what in ("no settings", "no checkpoint"):
                raise FileNotFoundError("the run is on another machine")
            if what == "not a number":
                images, labels = arguments
                return original(self, images * float("nan"), labels)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    setattr(owner, name, faulty)
    try:
        yield
    finally:
        setattr(owner, name, original)
