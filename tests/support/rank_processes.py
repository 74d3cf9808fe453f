"""Processes with ranks that run commands of `ladderseg` together, one after the other, as torchrun would start them."""

import contextlib
import errno
import io
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from support.processes import context
from support.tiny_training import register_tiny_model
from torch.distributed import TCPStore

from ladderseg_fast.cli import evaluate, train
from ladderseg_fast.cli.main import main
from ladderseg_fast.data import StreetScenes
from ladderseg_fast.engine import class_weights
from ladderseg_fast.engine.learner import Learner
from ladderseg_fast.engine.run_log import RunLog

#: Seconds after which processes that should have ended long ago are killed.
TIMEOUT = 90


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


def run_ranks(size: int, directory: Path, commands: Sequence[Command]) -> list[list[Ended]]:
    """What each command came to, by rank, in `size` processes that `directory` gets files of."""
    directory.mkdir(parents=True, exist_ok=True)
    # Like torchrun's agent, this process holds the store.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = []
    for rank in range(size):
        variables = {
            "RANK": rank,
            "WORLD_SIZE": size,
            "LOCAL_RANK": rank,
            "LOCAL_WORLD_SIZE": size,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": store.port,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        environment = {name: str(value) for name, value in variables.items()}
        process = context.Process(target=_work, args=(directory, environment, list(commands)), daemon=True)
        process.start()
        processes.append(process)
    end = time.monotonic() + TIMEOUT
    for process in processes:
        process.join(timeout=max(0.0, end - time.monotonic()))
    for process in processes:
        process.kill()
    assert [process.exitcode for process in processes] == [0] * size, f"by rank, after {TIMEOUT} s at most"
    ended = [json.loads((directory / f"ended{rank}.json").read_text()) for rank in range(size)]
    return [[Ended(**results[i]) for results in ended] for i in range(len(commands))]


def _work(directory: Path, environment: dict[str, str], commands: list[Command]) -> None:
    """Runs the commands in this process."""
    os.environ |= environment
    torch.set_num_threads(1)
    register_tiny_model()
    ended = []
    for command in commands:
        with _fault(command.fault):
            ended.append(asdict(_run(command.arguments)))
    (directory / f"ended{environment['RANK']}.json").write_text(json.dumps(ended))


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
