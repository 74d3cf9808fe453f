"""A model of torch's caching allocator on CUDA: what it takes from the device for a sequence of tensors.

The allocator takes segments from the device, cuts tensors from them, and keeps a segment when its tensors are gone.
So it reserves more than it has given out at any time. The rules are those of torch's CUDACachingAllocator with its
default settings, of one stream.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

#: Sizes are rounded up to a multiple of this.
GRANULARITY = 512

_MIB = 1 << 20

#: Tensors of up to so many bytes are cut from small segments.
_SMALL = _MIB
_SMALL_SEGMENT = 2 * _MIB

#: Tensors of fewer bytes are cut from medium segments; larger ones get a segment each.
_LARGE = 10 * _MIB
_MEDIUM_SEGMENT = 20 * _MIB
_SEGMENT_ROUNDING = 2 * _MIB


def rounded(size: int) -> int:
    """Bytes that a tensor of `size` bytes takes."""
    return -(-size // GRANULARITY) * GRANULARITY


@dataclass(eq=False)
class Block:
    """A part of a segment, between its neighbours."""

    size: int
    small: bool
    before: "Block | None" = None
    after: "Block | None" = None
    free: bool = False


class CachingAllocator:
    """The allocator's segments and blocks.

    Attributes:
        allocated, reserved: bytes given out, and taken from the device.
        most_allocated, most_reserved: their largest values so far.
    """

    def __init__(self) -> None:
        self.allocated = self.reserved = self.most_allocated = self.most_reserved = 0
        self._free: dict[bool, list[tuple[int, int, Block]]] = {True: [], False: []}
        """Free blocks of small and of other segments: size, identity, block; in order."""

    def allocate(self, size: int) -> Block:
        """Gives out a block of at least `size` bytes."""
        size = rounded(size)
        small = size <= _SMALL
        block = self._best_fit(size, small) or self._new_segment(size, small)
        remaining = block.size - size
        if remaining >= GRANULARITY if small else remaining > _SMALL:
            rest = Block(remaining, small, before=block, after=block.after)
            if rest.after is not None:
                rest.after.before = rest
            block.size, block.after = size, rest
            self._add(rest)
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Takes back a block; it is joined with free neighbours."""
        self.allocated -= block.size
        before, after = block.before, block.after
        if before is not None and before.free:
            self._remove(before)
            block.size += before.size
            block.before = before.before
            if block.before is not None:
                block.before.after = block
        if after is not None and after.free:
            self._remove(after)
            block.size += after.size
            block.after = after.after
            if block.after is not None:
                block.after.before = block
        self._add(block)

    def _best_fit(self, size: int, small: bool) -> Block | None:
        pool = self._free[small]
        i = bisect_left(pool, (size,))
        if i == len(pool):
            return None
        block = pool[i][2]
        self._remove(block)
        return block

    def _new_segment(self, size: int, small: bool) -> Block:
        if small:
            segment = _SMALL_SEGMENT
        elif size < _LARGE:
            segment = _MEDIUM_SEGMENT
        else:
            segment = -(-size // _SEGMENT_ROUNDING) * _SEGMENT_ROUNDING
        self.reserved += segment
        self.most_reserved = max(self.most_reserved, self.reserved)
        return Block(segment, small)

    def _add(self, block: Block) -> None:
        block.free = True
        insort(self._free[block.small], (block.size, id(block), block))

    def _remove(self, block: Block) -> None:
        block.free = False
        pool = self._free[block.small]
        del pool[bisect_left(pool, (block.size, id(block)))]
