"""How many processes load images where nobody has said."""

import collections

import pytest
import torch
from support.tiny_training import settings

from ladderseg_fast.engine import workers
from ladderseg_fast.engine.workers import suitable_workers

pytestmark = pytest.mark.real_use

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Usage = collections.namedtuple("Usage", "free")


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Six cores, of which torch takes four, and a gigabyte of shared memory."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(workers, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9))


def test_as_many_as_the_network_leaves_cores(monkeypatch):
    assert suitable_workers(CUDA) == 5
    assert suitable_workers(CPU) == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})
    assert (suitable_workers(CUDA), suitable_workers(CPU)) == (0, 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(192)))
    assert suitable_workers(CUDA) == 8


def test_batches_fit_into_shared_memory():
    """A container has 64 MB of it unless told otherwise; a process that finds none left is killed."""
    assert suitable_workers(CUDA, batch_bytes=10**7) == 5
    assert suitable_workers(CUDA, batch_bytes=10**9 // 12) == 2
    assert suitable_workers(CUDA, batch_bytes=10**9) == 0


def test_networks_share_the_machine():
    assert suitable_workers(CUDA, networks=2) == 2
    assert suitable_workers(CPU, networks=2) == 0
    assert suitable_workers(CUDA, batch_bytes=10**9 // 12, networks=2) == 1
    assert settings({"data.workers": None, "training.device": "cpu"}).resolved(4, processes=2).data.workers == 0


def test_machines_share_a_batch(monkeypatch):
    """A process has an eighth of it, whether all or one are on this machine: a share is 500 MB of shared memory."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    config = settings({"data.workers": None, "data.size": (1000, 1000), "training.batch": 8, "training.device": "cpu"})
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(2 * 3 * 4 * 13 * 10**6))
    assert [config.resolved(4, 8, here).data.workers for here in (1, 2)] == [4, 2]


def test_settings_decide_and_are_recorded():
    open_settings = settings({"data.workers": None})
    assert open_settings.data.workers is None
    assert open_settings.resolved(4).as_tables()["data"]["workers"] == 2
    chosen = settings({"data.workers": 0}).resolved(4)
    assert chosen.data.workers == 0
    assert chosen.resolved(4) == chosen


def test_device_is_recorded(monkeypatch):
    for available, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=available: found)
        config = settings({"training.device": "auto"}).resolved(4)
        assert config.as_tables()["training"]["device"] == name
