"""Files with a flipped bit or without their end: a reader either refuses them by name or reads what was written."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from ladderseg_fast.tensor_digest import tensors_in


def flips(data: bytes, count: int, every_byte_from: int | None = None, seed: int = 0) -> list[bytes]:
    """`data` with one bit flipped: at so many places, and in every byte from one on."""
    generator = random.Random(seed)
    places = [(generator.randrange(len(data)), 1 << generator.randrange(8)) for _ in range(count)]
    for i in range(len(data) if every_byte_from is None else every_byte_from, len(data)):
        places.append((i, 1 << generator.randrange(8)))
    return [data[:i] + bytes([data[i] ^ bit]) + data[i + 1 :] for i, bit in places]


def cuts(data: bytes, count: int, seed: int = 1) -> list[bytes]:
    """`data` without its end."""
    generator = random.Random(seed)
    return [data[: generator.randrange(len(data))] for _ in range(count)] + [data[:-1], data[:1], b""]


def check_damage(path: Path, read: Callable[[Path], object], damaged: Iterable[bytes]) -> tuple[int, int]:
    """How many of the files were refused, and how many read rightly; fails where neither happens."""
    expected = dict(tensors_in(read(path)))
    refused = right = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            actual = dict(tensors_in(read(path)))
        except ValueError as error:
            assert str(path) in str(error), error
            refused += 1
            continue
        assert actual.keys() == expected.keys()
        for name, tensor in actual.items():
            assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
        right += 1
    return refused, right
