"""Processes with ranks that run commands of `ladderseg` together, one after the other, as torchrun would start them."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

#: Seconds after which processes that should have ended long ago are killed.
TIMEOUT = 90


@dataclass(frozen=True)
class Command:
    """Arguments of `ladderseg`, and a fault in one process: its rank, what happens, and in which batch or call."""

    arguments: list[str]
    fault: tuple[int, str, int] | None = None


@dataclass(frozen=True)
class Ended:
    """What one process made of a command."""

    status: int | str
    output: str
    errors: str


def run_ranks(size: int, directory: Path, commands: Sequence[Command]) -> list[list[Ended]]:
    """What each command came to, by rank, in `size` processes that `directory` gets files of."""
    from torch.distributed import TCPStore

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "commands.json").write_text(json.dumps([asdict(command) for command in commands]))
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
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        command = [sys.executable, __file__, str(directory)]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    try:
        printed = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, "\n".join(printed)
    ended = [json.loads((directory / f"ended{rank}.json").read_text()) for rank in range(size)]
    return [[Ended(**results[i]) for results in ended] for i in range(len(commands))]


def _work(directory: Path) -> None:
    """Runs the commands in this process."""
    from support.tiny_training import register_tiny_model

    torch.set_num_threads(1)
    register_tiny_model()
    ended = []
    for command in json.loads((directory / "commands.json").read_text()):
        with _fault(command["fault"]):
            ended.append(asdict(_run(command["arguments"])))
    (directory / f"ended{os.environ['RANK']}.json").write_text(json.dumps(ended))


def _run(arguments: list[str]) -> Ended:
    from ladderseg_fast.cli.main import main

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
def _fault(fault: tuple[int, str, int] | None) -> Iterator[None]:
    """Block in which, in this process, something goes wrong at a certain call."""
    from ladderseg_fast.data import StreetScenes
    from ladderseg_fast.engine.learner import Learner
    from ladderseg_fast.engine.run_log import RunLog

    if fault is None or fault[0] != int(os.environ["RANK"]):
        yield
        return
    _, what, at = fault
    owner, name = {
        "signal": (Learner, "add_batch"),
        "full disk": (RunLog, "append"),
        "broken image": (StreetScenes, "__getitem__"),
        "bug": (Learner, "update"),
        "not a number": (Learner, "add_batch"),
    }[what]
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


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    _work(Path(sys.argv[1]))
