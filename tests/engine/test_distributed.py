"""The world of one process, and what a process of several is refused; tests/distributed has real ones."""

import io
import socket
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import TCPStore

from ladderseg_fast.engine import distributed
from ladderseg_fast.engine.distributed import World, check_alone, joined
from ladderseg_fast.engine.errors import RankError

VARIABLES = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def test_alone_without_a_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    check_alone()
    with joined() as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        tensor, stream = torch.ones(2), io.StringIO()
        world.sum(tensor)
        world.average([tensor])
        assert tensor.tolist() == [1.0, 1.0]
        assert world.largest(3) == 3
        assert world.gather("a") == ["a"]
        assert world.first(lambda: 5) == 5
        assert world.stream(stream) is stream
        assert world.device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_the_first_process_is_raised_in_all(monkeypatch, rank):
    """In the others with its rank."""
    sent = [None, ("no space", None)]

    def broadcast(box, src):
        if rank == src:
            assert box == sent
        box[:] = sent

    def write():
        assert rank == 0, "the first process alone runs it"
        raise OSError("no space")

    monkeypatch.setattr(distributed.dist, "broadcast_object_list", broadcast)
    with pytest.raises(OSError if rank == 0 else RankError, match="no space" if rank == 0 else "rank 0: no space"):
        World(rank, 2).first(write)


def test_alone_if_the_launcher_starts_one(monkeypatch):
    for name, value in (VARIABLES | {"RANK": "0", "WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    with joined() as world:
        assert world.size == 1


def test_alone_if_no_more_is_set_than_that_there_is_one(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_alone()
    with joined() as world:
        assert world.size == 1


def test_failure_before_the_launcher_started_again_is_none_of_this_start(monkeypatch):
    """torchrun --max-restarts keeps its store."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    variables = {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in (VARIABLES | variables).items():
        monkeypatch.setenv(name, value)
    for restarts in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        monkeypatch.setattr(distributed, "_groups", count())  # as in a new process
        _, watch = distributed._join({"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1})
        watch.leaving()
        assert not watch._failed.wait(timeout=1.5), watch._failure
        watch.report("rank 0: a full disk")
        watch.stop()
        distributed._close()


def test_variables_that_are_missing_or_wrong(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ValueError, match="must be whole numbers, got .*first"), joined():
        pass
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(ValueError, match="MASTER_PORT is not: start the command by torchrun"), joined():
        pass


class FakeWorld(World):
    """Of processes that have these GPUs, besides this one's; an error is of this one."""

    def __init__(self, *others, **numbers):
        super().__init__(**numbers)
        self.others = others

    def gather(self, value):
        return [value, *self.others]

    @contextmanager
    def together(self):
        yield


@pytest.fixture
def gpus(monkeypatch):
    """Names of the GPUs that torch finds, which may be changed, and the numbers of those that were chosen."""
    names, chosen = ["a", "b"], []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=names[number]))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return names, chosen


def test_each_process_has_a_gpu(gpus):
    second = FakeWorld(("here", 0, "a"), ("there", 1, "b"), rank=5, size=8, local_rank=1, local_size=4)
    assert second.device(torch.device("cuda")) == torch.device("cuda:1")
    assert gpus[1] == [1]
    assert second.device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match='device must be "cuda" or "cpu" with 8 processes, got "cuda:0"'):
        second.device(torch.device("cuda:0"))
    with pytest.raises(ValueError, match="4 processes on this machine, which need a GPU each, but torch finds 2 in ea"):
        FakeWorld(rank=2, size=8, local_rank=2, local_size=4).device(torch.device("cuda"))


def test_each_process_sees_a_gpu_of_its_own(gpus, monkeypatch):
    """As where SLURM binds one to each."""
    names, chosen = gpus
    names[:] = ["b"]
    numbers = {"rank": 1, "size": 2, "local_rank": 1, "local_size": 2}
    assert FakeWorld(("here", 0, "a"), **numbers).device(torch.device("cuda")) == torch.device("cuda:0")
    assert chosen == [0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    message = r"2 processes on this machine, .* finds 1 \(CUDA_VISIBLE_DEVICES=3\) in each of them"
    with pytest.raises(ValueError, match=message):
        FakeWorld(("here", 0, "b"), **numbers).device(torch.device("cuda"))
    names.clear()
    with pytest.raises(ValueError, match="torch finds 0"):
        FakeWorld(("here", 0, "None"), **numbers).device(torch.device("cuda"))
