"""Sizes, numbers and tensors drawn from a seed, in every place that torch's views let a tensor have in memory."""

import random
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: Channels, and pixels of a side: around the widths of vectors and of tiles.
_CHANNELS = (1, 1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 96, 130)
_SIDES = (1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 20, 31, 33, 64)

#: Elements of a map: more only take longer.
_MOST_ELEMENTS = 20_000


class Draw:
    """Draws from a seed: the same calls give the same results."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def choice(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)

    def integer(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def images(self) -> int:
        return self.choice((0, 1, 1, 1, 1, 2, 2, 3))

    def channels(self) -> int:
        return self.choice(_CHANNELS)

    def map_shape(self, least: int = 1) -> tuple[int, int, int, int]:
        """[N, C, H, W] of few elements, with at least so many rows and columns."""
        while True:
            n, c, h, w = self.images(), self.channels(), self.choice(_SIDES), self.choice(_SIDES)
            if least == 0 and self.chance(0.1):
                h, w = self.choice(((0, w), (h, 0), (0, 0)))
            if n * c * h * w <= _MOST_ELEMENTS and min(h, w) >= least:
                return n, c, h, w

    def side(self) -> int:
        return self.choice(_SIDES)

    def uniform(self, shape: Sequence[int], low: float, high: float, dtype: torch.dtype = torch.float64) -> Tensor:
        shares = torch.rand(tuple(shape), generator=self._generator(), dtype=torch.float64)
        return (low + (high - low) * shares).to(dtype)

    def eighths(self, shape: Sequence[int], least: int, most: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Multiples of 1/8 from least/8 to most/8: batch norm of such numbers is exact, and so is its sign."""
        return self.integers(shape, least, most).to(dtype) / 8

    def integers(self, shape: Sequence[int], least: int, most: int) -> Tensor:
        return torch.randint(least, most + 1, tuple(shape), generator=self._generator())

    def placed(self, x: Tensor) -> Tensor:
        """`x`, perhaps with some of its values in the place of others, at some other place in memory.

        What lies between its elements is NaN, or the largest integer.
        """
        way = self.choice((_as_it_is, _permuted, _permuted, _sliced, _sliced, _expanded, _overlapping, _negated))
        placed = way(self, x)
        return self._with_any_strides_of_one_element(placed) if self.chance(0.2) else placed

    def _with_any_strides_of_one_element(self, x: Tensor) -> Tensor:
        """The same elements; the stride of an axis of size 1 or 0 means nothing, so it may be any number."""
        if x.is_neg():
            return x
        strides = [
            self.choice((0, 1, 3, 1 << 40)) if size <= 1 else stride for size, stride in zip(x.shape, x.stride())
        ]
        return x.as_strided(x.shape, strides, x.storage_offset())

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._random.getrandbits(63))


def bits_of_storage(x: Tensor) -> Tensor:
    """A copy of all bytes of the storage that `x` is a view of."""
    storage = x.untyped_storage()
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,)).clone()


def _as_it_is(draw: Draw, x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _permuted(draw: Draw, x: Tensor) -> Tensor:
    """Another order of axes in memory; for maps mostly channels_last."""
    if x.dim() == 4 and draw.chance(0.6):
        return x.contiguous(memory_format=torch.channels_last)
    order = list(range(x.dim()))
    draw._random.shuffle(order)
    inverse = [order.index(axis) for axis in range(x.dim())]
    return x.permute(order).contiguous().permute(inverse)


def _sliced(draw: Draw, x: Tensor) -> Tensor:
    """A part of a larger tensor: margins, and steps, of some axes."""
    x = _permuted(draw, x)
    axes = [axis for axis in range(x.dim()) if draw.chance(0.5)] or [0]
    if x.dim() == 4 and draw.chance(0.5):
        axes = [1]  # a range of channels of a wider map
    shape, slices = list(x.shape), [slice(None)] * x.dim()
    for axis in axes if x.dim() else []:
        before, after, step = draw.integer(0, 5), draw.integer(0, 5), draw.choice((1, 1, 2))
        slices[axis] = slice(before, before + step * x.shape[axis], step)
        shape[axis] = before + step * x.shape[axis] + after
    order = sorted(range(x.dim()), key=lambda axis: -x.stride(axis))
    inverse = [order.index(axis) for axis in range(x.dim())]
    gap = torch.nan if x.is_floating_point() else torch.iinfo(x.dtype).max
    wide = torch.full([shape[axis] for axis in order], gap, dtype=x.dtype).permute(inverse)
    part = wide[tuple(slices)]
    return part.copy_(x)


def _expanded(draw: Draw, x: Tensor) -> Tensor:
    """Stride 0 in some axes: one element stands for all."""
    for axis in range(x.dim()):
        if draw.chance(0.4) and x.shape[axis] > 0:
            x = x.narrow(axis, draw.integer(0, x.shape[axis] - 1), 1).expand_as(x)
    return x


def _overlapping(draw: Draw, x: Tensor) -> Tensor:
    """Small strides: elements share their memory with others, like windows that slide."""
    if x.numel() == 0:
        return x
    strides = [draw.integer(0, 3) for _ in x.shape]
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, strides))
    offset = draw.integer(0, 3)
    values = x.reshape(-1)
    return values.repeat(-(-(extent + offset) // len(values))).as_strided(x.shape, strides, offset)


def _negated(draw: Draw, x: Tensor) -> Tensor:
    """The values negated in memory, and the bit that says so."""
    return torch._neg_view(-x) if x.is_floating_point() else x
