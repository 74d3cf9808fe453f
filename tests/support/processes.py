"""Functions and programs run by processes of their own, several at once; some with a gloo process group."""

import contextlib
import datetime
import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from torch import distributed

#: Seconds after which a collective call gives up, and in which all processes must have ended.
_COLLECTIVE, _ALL = 60, 120

#: Starts processes from one that has loaded torch already, whose import takes seconds, and nothing else.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo"])


def run_each(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Results of `function` in a process of its own for each of `arguments`.

    `function` is one of a module in tests/support, which the processes can import.
    """
    results, processes = [], []
    for each in arguments:
        receiver, sender = context.Pipe(duplex=False)
        # Daemons end with the process that runs the tests.
        process = context.Process(target=_run, args=(sender, function, each), daemon=True)
        process.start()
        sender.close()
        results.append(receiver)
        processes.append(process)
    try:
        return _received(results)
    finally:
        for process in processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()


def outputs_of(programs: Sequence[str], folder: Path, **variables: str) -> list[str]:
    """What the sources `programs` print, which run at once in processes of their own in `folder`.

    `variables` are added to the environment. Only torch has been imported in the processes.
    """
    environment = os.environ | variables
    return run_each(_printed, [(program, folder, environment) for program in programs])


def output_of(program: str, folder: Path, **variables: str) -> str:
    """As outputs_of, for one."""
    return outputs_of([program], folder, **variables)[0]


def run_script(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT ARGUMENTS` does in a process that has imported torch."""
    command = [str(script), *arguments]
    ((status, output, errors),) = run_each(_script, [(command, dict(os.environ))])
    return subprocess.CompletedProcess(command, status, output, errors)


def run_in_processes(function: Callable[..., Any], count: int, folder: Path, *arguments: Any) -> list[Any]:
    """function(rank, *arguments) in each of `count` processes of a group; returns the results by rank.

    `folder` is for the file where they meet; for `function` see run_each.
    """
    rendezvous = f"file://{folder / 'rendezvous'}"
    return run_each(_in_group, [(function, rank, count, rendezvous, arguments) for rank in range(count)])


def _received(results: list[Connection]) -> list[Any]:
    found: dict[int, Any] = {}
    end = datetime.datetime.now() + datetime.timedelta(seconds=_ALL)
    while len(found) < len(results):
        left = (end - datetime.datetime.now()).total_seconds()
        ready = wait([each for rank, each in enumerate(results) if rank not in found], timeout=max(0.0, left))
        assert ready, f"of {len(results)} processes, {sorted(found)} have ended in {_ALL} seconds"
        for rank, each in enumerate(results):
            if each in ready:
                try:
                    error, found[rank] = torch.load(io.BytesIO(each.recv_bytes()), weights_only=False)
                except EOFError:
                    error = "it ended without a result"
                assert error is None, f"process {rank}: {error}"
    return [found[rank] for rank in range(len(results))]


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    try:
        _send(sender, None, function(*arguments))
    except BaseException:
        _send(sender, traceback.format_exc(), None)


def _script(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    _take_over(environment)
    sys.argv, status = command, 0
    sys.path.insert(0, os.path.dirname(command[0]))
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            status = 1
    return status, output.getvalue(), errors.getvalue()


def _take_over(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _printed(program: str, folder: Path, environment: dict[str, str]) -> str:
    _take_over(environment)
    os.chdir(folder)
    sys.path.insert(0, "")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(program, {"__name__": "__main__"})
    return output.getvalue()


def _in_group(
    function: Callable[..., Any], rank: int, count: int, rendezvous: str, arguments: tuple[Any, ...]
) -> object:
    timeout = datetime.timedelta(seconds=_COLLECTIVE)
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=count, timeout=timeout)
    try:
        return function(rank, *arguments)
    finally:
        distributed.destroy_process_group()


def _send(sender: Connection, error: str | None, result: Any) -> None:
    """Sends copies of tensors: shared memory would be gone with this process."""
    content = io.BytesIO()
    torch.save((error, result), content)
    sender.send_bytes(content.getvalue())
