"""The model of torch's CUDA allocator, by its rules; what it says of training steps; storages as they come and go."""

import random

import pytest
import torch
from support.ladder_models import make_model

from ladderseg_fast import memory
from ladderseg_fast.lean import MemoryPlan
from ladderseg_fast.memory.caching_allocator import CachingAllocator, rounded
from ladderseg_fast.memory.live_tensors import LiveTensors

MIB = 1 << 20
CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (30 * MIB + 1, 32 * MIB),
    ],
)
def test_segments(size: int, segment: int) -> None:
    allocator = CachingAllocator()
    allocator.allocate(size)
    assert (allocator.reserved, allocator.most_reserved) == (segment, segment)


def test_a_segment_is_cut_and_its_parts_are_joined() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(MIB // 2) for _ in range(4)]
    assert allocator.reserved == allocator.allocated == 2 * MIB
    allocator.release(blocks[1]), allocator.release(blocks[2])
    allocator.allocate(MIB)
    assert allocator.reserved == 2 * MIB
    allocator.allocate(512)
    assert allocator.reserved == 4 * MIB


def test_the_smallest_block_that_fits_is_taken() -> None:
    allocator = CachingAllocator()
    large, medium = allocator.allocate(64 * MIB), allocator.allocate(32 * MIB)
    allocator.release(large), allocator.release(medium)
    allocator.allocate(31 * MIB + 512)
    allocator.allocate(64 * MIB)
    assert allocator.reserved == 96 * MIB


def test_of_a_large_block_no_small_rest_is_cut() -> None:
    """It is given out as a whole, and counts as such."""
    allocator = CachingAllocator()
    allocator.release(allocator.allocate(32 * MIB))
    allocator.allocate(31 * MIB)
    assert allocator.allocated == 32 * MIB
    allocator.allocate(2 * MIB)
    assert allocator.reserved == (32 + 20) * MIB


def test_small_and_large_tensors_never_share_a_segment() -> None:
    allocator = CachingAllocator()
    allocator.release(allocator.allocate(15 * MIB))
    allocator.allocate(512)
    assert allocator.reserved == (16 + 2) * MIB


def test_every_byte_is_given_out_or_free() -> None:
    chance, allocator, blocks = random.Random(0), CachingAllocator(), []
    for _ in range(3000):
        if blocks and chance.random() < 0.5:
            allocator.release(blocks.pop(chance.randrange(len(blocks))))
        else:
            size = chance.choice((1000, 100_000, 3 * MIB, 12 * MIB))
            blocks.append(allocator.allocate(chance.randint(1, size)))
        free = sum(size for pool in allocator._free.values() for size, _, _ in pool)
        assert allocator.allocated == sum(block.size for block in blocks) == allocator.reserved - free
    for block in blocks:
        allocator.release(block)
    assert allocator.allocated == 0
    assert all(block.before is block.after is None for pool in allocator._free.values() for _, _, block in pool)


def test_storages_come_and_go() -> None:
    known = torch.empty(100, device="meta")
    with LiveTensors([known], granularity=512) as tensors:
        first = torch.empty(3, device="meta")
        second = first.view(3, 1) + known[:3]
        del first
        with tensors.paused():
            torch.empty(1000, device="meta")
        third = torch.empty(256, device="meta")
    assert tensors.most == 512 + 1024 + 0 * second.numel() + 0 * third.numel()
    assert tensors.events == [(0, 512), (1, 512), (0, 0), (2, 1024)]
    del second, third
    assert tensors.events[4:] == [(1, 0), (2, 0)] and tensors.live == 0


@pytest.mark.parametrize("optimizer", ["none", "adam"])
def test_reserved_memory_of_a_step(optimizer: str) -> None:
    """One block for all maps, and little between tensors: not the block and the maps of a first step beside it."""
    model = make_model(dtype=torch.float32)
    shapes = (2, 3, 512, 1024), (4, 3, 512, 1024)
    found = [memory.estimate(model, shape, None, device="cuda", optimizer=optimizer) for shape in shapes]
    for estimate in found:
        assert estimate.peak <= estimate.reserved <= 1.1 * estimate.peak + 64 * MIB
    assert found[1].reserved - found[0].reserved >= 0.9 * (found[1].workspace - found[0].workspace)
    assert memory.estimate(model, (2, 3, 64, 64)).reserved is None


def test_sizes_are_as_torch_rounds_them_on_cuda() -> None:
    model = make_model(dtype=torch.float32)
    on_cuda, on_cpu = (memory.estimate(model, (2, 3, 64, 64), MemoryPlan(), device=kind) for kind in ("cuda", "cpu"))
    tensors = [*model.parameters(), *model.buffers()]
    exact = sum(tensor.nbytes for tensor in tensors)
    assert on_cpu.parts["parameters and buffers"] == exact
    assert on_cuda.parts["parameters and buffers"] == sum(rounded(tensor.nbytes) for tensor in tensors) > exact
