"""Memory that torch's allocator takes from a GPU for training steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from .caching_allocator import Block, CachingAllocator
from .symbolic import Trace


@dataclass(frozen=True)
class Allocations:
    """Sizes in bytes of everything that a training allocates on a GPU, in the order of time.

    model: parameters, buffers, images and labels.
    workspace: the block of feature maps.
    step: the other tensors of a step.
    optimizer: the state that an optimizer makes in its first step.
    update: tensors that it makes in every step.
    """

    model: Sequence[int]
    workspace: int
    step: Trace
    optimizer: Sequence[int]
    update: Sequence[int]

    def most_reserved(self) -> int:
        """Most bytes that torch's allocator holds in the first two steps, in and between tensors."""
        allocator = CachingAllocator()
        for size in (*self.model, self.workspace):
            allocator.allocate(size)
        for first in (True, False):
            blocks: dict[int, Block] = {}
            events, end = self.step.events, self.step.events_of_step
            _follow(events[:end], allocator, blocks)
            if first:
                for size in self.optimizer:
                    allocator.allocate(size)
            for block in [allocator.allocate(size) for size in self.update]:
                allocator.release(block)
            _follow(events[end:], allocator, blocks)
        return allocator.most_reserved


def _follow(events: Sequence[tuple[int, int]], allocator: CachingAllocator, blocks: dict[int, Block]) -> None:
    for number, size in events:
        if size:
            blocks[number] = allocator.allocate(size)
        else:
            allocator.release(blocks.pop(number))
