"""Holdings of a process: memory, descriptors, threads, objects."""

import ctypes
import gc
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from statistics import linear_regression
from typing import NamedTuple

import torch

_PAGE = os.sysconf("SC_PAGESIZE")


class Holdings(NamedTuple):
    """Numbers that must not grow while a process does the same again and again."""

    resident: int
    """Resident set in bytes."""
    objects: int
    """Objects that Python's collector knows."""
    tensors: int
    descriptors: int
    threads: int


def holdings() -> Holdings:
    """Returns the holdings of this process, after a collection."""
    gc.collect()
    # What the allocator keeps for later comes and goes.
    ctypes.CDLL(None).malloc_trim(0)
    objects = gc.get_objects()
    # By their type: isinstance would ask lazy modules of other packages for their class.
    tensors = sum(issubclass(type(each), torch.Tensor) for each in objects)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tasks = len(os.listdir("/proc/self/task"))
    return Holdings(
        pages * _PAGE, len(objects), tensors, len(os.listdir("/proc/self/fd")), max(tasks, threading.active_count())
    )


def growth(samples: Sequence[Holdings], rounds: int) -> dict[str, float]:
    """Growth of each number over the last half of the samples, by its line of least squares, per `rounds` samples."""
    half = samples[len(samples) // 2 :]
    return {
        name: rounds * linear_regression(range(len(half)), [getattr(each, name) for each in half]).slope
        for name in Holdings._fields
    }
