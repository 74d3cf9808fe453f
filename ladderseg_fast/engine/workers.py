"""Number of processes that load images."""

import os
import shutil
from pathlib import Path

import torch

#: More than these wait for each other, or for the disk.
_MOST_WORKERS = 8

#: Place where loader processes put batches, and the number that each has there: two in advance, as is DataLoader's
#: default, and one that is being made or used.
_SHARED_MEMORY = Path("/dev/shm")
_BATCHES_PER_WORKER = 3


def suitable_workers(device: torch.device, batch_bytes: int = 0, networks: int = 1) -> int:
    """Number of processes that should load images for a network on `device`: the cores that it leaves free, at most 8.

    On the CPU the network's threads take theirs. Results do not depend on it.

    Args:
        batch_bytes: size of a batch, which loader processes hand over in shared memory. A container may have little of
            it, and a process that finds none left is killed; so no more workers than half of what is free serves.
        networks: number of such networks on this machine, which share its cores and its memory.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    workers = max(0, min(len(os.sched_getaffinity(0)) // networks - threads, _MOST_WORKERS))
    if batch_bytes and _SHARED_MEMORY.is_dir():
        room = shutil.disk_usage(_SHARED_MEMORY).free // 2
        workers = min(workers, room // (_BATCHES_PER_WORKER * batch_bytes * networks))
    return workers
