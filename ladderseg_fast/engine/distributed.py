"""The processes that work on one training or evaluation together, as `torchrun` starts them."""

import contextlib
import gc
import importlib
import os
import re
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TextIO, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import Interrupted, NonFiniteError, RankError, SystemRefusal
from .rank_watch import RankWatch

T = TypeVar("T")

#: How long a process waits for the others in one call: one of them may be reading a large data set meanwhile. RankWatch
#: notices much earlier that a process is gone.
TIMEOUT = timedelta(minutes=30)

#: Variables that torchrun sets, and that other launchers have to.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

#: Messages of gloo, NCCL and torch when a process does not answer.
_COMMUNICATION = re.compile(r"gloo|NCCL|Connection (closed|reset)|ProcessGroup")

#: Errors that a user can mend, or has made, which one process says for all.
_SAID_ONCE = (OSError, ValueError, ImportError, NonFiniteError, SystemRefusal, Interrupted, KeyboardInterrupt)

#: Seconds that a process that failed gives rank 0 to save and to say what happened.
_LAST_WORDS = 25.0

#: Numbers the groups of one process, whose keys in the store must differ.
_groups = count()


class World:
    """Processes with ranks 0 to `size` - 1 that run the same program; this one alone by default.

    Except `is_first`, `stream`, `writing`, `keeps`, `leaving` and `explained`, every method is a call that all
    processes make together, and in the same order.

    Args:
        local_rank: number of this process on its machine.
        local_size: number of processes on this machine.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1, watch: RankWatch | None = None
    ) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size
        self._watch = watch

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def stream(self, stream: TextIO) -> TextIO:
        """Returns `stream` in the first process, and in others one that discards everything."""
        return stream if self.is_first else open(os.devnull, "w", encoding="utf-8")

    def device(self, device: torch.device) -> torch.device:
        """Device of this process if the run was asked for on `device`: on CUDA that of its local rank, or the only one
        that the launcher shows it.

        Raises:
            ValueError: `device` is one certain GPU, which cannot be that of all processes, or there are too few.
            RankError: there are too few on another machine.
        """
        if self.size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise ValueError(f'device must be "cuda" or "cpu" with {self.size} processes, got "{device}"')
        found = torch.cuda.device_count()
        number = 0 if found == 1 else self.local_rank
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        # Before version 2.5, torch may not tell a GPU's UUID.
        uuid = getattr(torch.cuda.get_device_properties(number), "uuid", visible) if number < found else None
        own = socket.gethostname(), number, str(uuid)
        taken = self.gather(own).count(own) > 1
        with self.together():
            if number >= found or taken:
                raise ValueError(
                    f"there are {self.local_size} processes on this machine, which need a GPU each, but torch finds "
                    f"{found}{'' if visible is None else f' (CUDA_VISIBLE_DEVICES={visible})'} in each of them"
                )
        torch.cuda.set_device(number)
        return torch.device("cuda", number)

    def sum(self, tensor: Tensor) -> None:
        """Replaces `tensor` by the sum of all processes' tensors; the bits are the same in each."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each of `tensors`, of one dtype and device, by its mean over the processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return number
        box = torch.tensor(number)
        dist.all_reduce(box, op=dist.ReduceOp.MAX)
        return int(box)

    def gather(self, value: T) -> list[T]:
        """All processes' values, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def first(self, function: Callable[[], T]) -> T:
        """Result of `function`, which the first process alone runs.

        Raises:
            RankError: (in the others) it raised an error; or Interrupted, if it was that.
        """
        if self.size == 1:
            return function()
        error, box = None, [None, None]
        if self.is_first:
            try:
                box = [function(), None]  # type: ignore[list-item]
            except Exception as raised:
                error, box = raised, [None, _description(raised)]  # type: ignore[list-item]
        dist.broadcast_object_list(box, src=0)
        if error is not None:
            raise error
        if box[1] is not None:
            raise _error_of(0, box[1])
        return box[0]  # type: ignore[return-value]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Block that all processes leave at one time: an error in one of them is raised in all.

        Raises:
            RankError: another process had the error.
        """
        if self.size == 1:
            yield
            return
        error = None
        try:
            yield
        except Exception as raised:
            error = raised
        if self.largest(int(error is not None)):
            described = self.gather(None if error is None else _description(error))
            if error is not None:
                raise error
            raise next(_error_of(rank, found) for rank, found in enumerate(described) if found is not None)

    def writing(self) -> AbstractContextManager[None]:
        """Block in which this process writes a file; if another one fails meanwhile, there is a minute to finish it."""
        return contextlib.nullcontext() if self._watch is None else self._watch.writing()

    def keeps(self, kept: Callable[[], str]) -> None:
        """Gives the words about the work that is not lost, for the case that this process has to be ended.

        `kept` is held to the end, so it must not hold a model in DistributedDataParallel: nothing closed its group.
        """
        if self._watch is not None:
            self._watch.kept = kept

    def leaving(self) -> None:
        """Says that this process ends after an error, as soon as it has saved what it can."""
        if self._watch is not None:
            self._watch.leaving()

    def explained(self, error: Exception) -> Exception:
        """Reason of `error`: a RankError that names a process if it only says that one did not answer."""
        if self._watch is None or isinstance(error, _SAID_ONCE):
            return error
        if not (isinstance(error, RuntimeError) and _COMMUNICATION.search(str(error))):
            return error
        failure = self._watch.find_failure()
        return RankError(failure or f"a process did not answer: {str(error).splitlines()[0]}")


@contextmanager
def joined() -> Iterator[World]:
    """The world of this process for the block: all processes that torchrun has started, or this one alone without it.

    An error in one process ends all. Where the first process can say it, the others end silently, with SystemExit.

    Raises:
        ValueError: a variable that torchrun sets is missing or wrong.
        RankError: another process failed or is gone; the message names it.
    """
    numbers = _numbers()
    if numbers["WORLD_SIZE"] == 1:
        yield World()
        return
    world, watch = _join(numbers)
    try:
        try:
            yield world
            world.largest(0)
        except Exception as raised:
            watch.leaving()
            error = world.explained(raised)
            if error is raised:
                raise
            raise error from raised
    except BaseException as error:
        _leave_after(error, world, watch)
        raise
    finally:
        watch.stop()
        _close()


def check_alone() -> None:
    """Raises ValueError if this is one of several processes, of a program that does not share its work."""
    size = _numbers()["WORLD_SIZE"]
    if size > 1:
        raise ValueError(f"this command needs one process, but it was started as {size}; start it without torchrun")


def _join(numbers: dict[str, int]) -> tuple[World, RankWatch]:
    rank, size = numbers["RANK"], numbers["WORLD_SIZE"]
    # DistributedDataParallel imports this module, whose functions keep, as a default argument, the group that there is
    # at that time. Its connections would then stay open after an error, and the others would wait for an answer.
    importlib.import_module("torch.distributed.nn.functional")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # A launcher that starts all processes again may keep its store, which knows how the last start ended.
    prefix = f"ladderseg/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_groups)}"
    store, _, _ = next(iter(dist.rendezvous("env://", rank, size, timeout=TIMEOUT)))
    dist.init_process_group(backend, store=dist.PrefixStore(prefix, store), rank=rank, world_size=size, timeout=TIMEOUT)
    own = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    watch = RankWatch(dist.PrefixStore(f"{prefix}/watch", own), rank, size)
    return World(rank, size, numbers["LOCAL_RANK"], numbers["LOCAL_WORLD_SIZE"], watch), watch


def _leave_after(error: BaseException, world: World, watch: RankWatch) -> None:
    """Tells the others of `error`, and leaves it to the first process to say it if that can.

    Raises:
        SystemExit: it can.
    """
    if not isinstance(error, RankError):
        watch.report(f"rank {world.rank}: {_text(error)}")
    _hang_up(error)
    if world.is_first:
        # The launcher ends all processes when the first of the others has left, and this one has something to say yet.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        watch.left()
        # It may hold the store, from which the others learn what happened.
        for rank in range(1, world.size):
            watch.wait_until_left(rank, seconds=2.0)
        return
    said = isinstance(error, _SAID_ONCE) and watch.wait_until_left(0, _LAST_WORDS)
    watch.left()
    if said:
        raise SystemExit(_status(error)) from error


def _hang_up(error: BaseException) -> None:
    """Closes the connections, so that who waits for an answer from here gets an error."""
    # What the functions that `error` has ended still hold uses the group: a model, for one.
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__
    _close()


def _close() -> None:
    """Ends the group of processes, and its connections."""
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
    # The connections are open as long as anything uses the group; cycles of references do, to the end of the process.
    gc.collect()


def _numbers() -> dict[str, int]:
    """Numbers of the launcher's variables; those of one process if there are none."""
    alone = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    # Who starts one process may set no more than these two.
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return alone
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(f"RANK and WORLD_SIZE are set, but {', '.join(missing)} is not: start the command by torchrun")
    texts = {name: os.environ.get(name, "1") for name in alone}
    if not all(re.fullmatch(r"\d+", text) for text in texts.values()):
        raise ValueError(f"RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE must be whole numbers, got {texts}")
    return {name: int(text) for name, text in texts.items()}


def _status(error: BaseException) -> int:
    """Exit status of a process that `error` ended."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 128 + error.signal if isinstance(error, Interrupted) else 2


def _description(error: Exception) -> tuple[str, int | None]:
    """Facts about `error` for other processes: its text, and the signal if it is Interrupted."""
    return _text(error), error.signal if isinstance(error, Interrupted) else None


def _error_of(rank: int, description: tuple[str, int | None]) -> Exception:
    text, number = description
    return RankError(f"rank {rank}: {text}") if number is None else Interrupted(text, signal.Signals(number))


def _text(error: BaseException) -> str:
    """Message of an error in one line, without the traceback that a loader process puts before it."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return text if isinstance(error, _SAID_ONCE) else f"{type(error).__name__}: {text}"
