"""An error in one process closes its connections at once: the other learns it by its own call, and can say more."""

import os
import subprocess
import sys

from torch.distributed import TCPStore

#: In a new interpreter, where nothing that DistributedDataParallel imports is there yet.
PROGRAM = """
import torch
from ladderseg_fast.engine.distributed import joined

with joined() as world:
    torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    if world.rank == 1:
        raise OSError("a full disk")
    world.sum(torch.zeros(1))
"""


def test_error_reaches_a_call_of_the_other():
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = []
    for rank in "01":
        variables = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "OMP_NUM_THREADS": "1"}
        environment = os.environ | variables | {"TORCHELASTIC_USE_AGENT_STORE": "True"}
        command = [sys.executable, "-c", PROGRAM]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert errors[0].endswith("RankError: rank 1: a full disk\n"), errors[0]
    assert processes[1].returncode == 2
