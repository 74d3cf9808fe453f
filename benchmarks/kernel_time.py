"""Least time of a kernel's launch, from its machine code: instructions, bytes and products.

A multiprocessor has four schedulers, each of which issues one instruction of a warp per cycle. A launch takes at least

- as long as the multiprocessor with the most blocks needs to issue the instructions of their warps,
- as long as its bytes take at the bandwidth of the memory, each counted once (roofline_counts.py),
- as long as its products take at the rate of the arithmetic (roofline_devices.py).

The instructions of a warp are those on the way of its kernel (control_flow.py): the trips of the main loop times one
trip, and the rest once. The main loop is the one with the products; its trips are the launch's products over those of
one trip. In kernels without products it is the loop that moves the most bytes; its trips are the launch's bytes, those
written where it writes, over those of one trip. A loop inside whose trips the code does not tell counts once per trip.

Not in it: waiting for memory, barriers and the results of other instructions, conflicts of banks, units that take an
instruction only every second cycle, caches that are too small, and the launch itself. So a kernel takes longer.
"""

import math
from dataclasses import dataclass

import torch
from compiled_kernels import Kernel
from control_flow import LoopPath, Path
from occupancy import warps_of
from roofline_devices import Device
from roofline_torch import Work

SCHEDULERS = 4


@dataclass(frozen=True)
class Bound:
    """Least times of a launch, in seconds, by what limits it."""

    issue: float
    memory: float
    products: float

    @property
    def seconds(self) -> float:
        return max(self.issue, self.memory, self.products)


def bound(work: Work, kernel: Kernel, device: Device, dtype: torch.dtype) -> Bound:
    """Bound of one launch of `kernel`; dtype is that of the maps."""
    blocks = math.ceil(work.launch.blocks / device.multiprocessors)
    warps = math.ceil(blocks * warps_of(work.launch.threads) / SCHEDULERS)
    return Bound(
        issue=warps * instructions_per_warp(kernel, work) / device.clock,
        memory=work.moved_bytes / device.memory,
        products=work.operations / device.rate(dtype, work.by_tensor_cores) if work.is_product else 0.0,
    )


def instructions_per_warp(kernel: Kernel, work: Work) -> float:
    """Issue slots that a warp takes in this launch."""
    main = main_loop(kernel)
    if main is None:
        return kernel.path.total_slots
    rest = kernel.path.total_slots - (main.trips or 1) * main.total_slots
    return rest + trips(main, kernel, work) * main.total_slots


def main_loop(kernel: Kernel) -> LoopPath | None:
    """Loop, of the outermost ones, that does the most of the kernel's work; None if none does any."""
    weight = (lambda loop: loop.product.multiply_adds) if kernel.multiplies else moved_bytes
    loop = max(kernel.path.loops, key=weight, default=None)
    return loop if loop is not None and weight(loop) else None


def trips(loop: LoopPath, kernel: Kernel, work: Work) -> float:
    """Trips of the main loop in a launch, of each of its warps."""
    launch = work.launch
    if kernel.multiplies:
        warps = launch.blocks * warps_of(launch.threads)
        return work.operations / 2 / (warps * loop.product.multiply_adds)
    threads = launch.blocks * launch.threads
    stored = moved_bytes(loop, ("store wide", "store scalar"))
    if stored and work.written_bytes:
        return work.written_bytes / (threads * stored)
    return work.read_bytes / (threads * moved_bytes(loop))


_MOVES = ("load wide", "load scalar", "async copy", "store wide", "store scalar")


def moved_bytes(path: Path, kinds: tuple[str, ...] = _MOVES) -> float:
    """Bytes that a thread moves to and from device memory on the way."""
    return path.total(lambda part: sum(one.bytes_per_thread for one in part.instructions if one.kind in kinds))
