"""Random numbers go on where they were."""

import io
import random

import numpy as np
import torch

from ladderseg_fast.engine.random_state import get_random_states, seed_all, set_random_states


def draw():
    return random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(()))


def test_same_numbers_after_a_checkpoint():
    seed_all(5)
    # An odd number of normal ones: NumPy keeps the second of a pair.
    draw()
    file = io.BytesIO()
    torch.save(get_random_states(), file)
    expected = [draw() for _ in range(3)]
    seed_all(6)
    file.seek(0)
    set_random_states(torch.load(file, weights_only=True))
    assert [draw() for _ in range(3)] == expected


def test_seed_decides():
    numbers = []
    for seed in (3, 3, 2**40 + 3):
        seed_all(seed)
        numbers.append(draw())
    assert numbers[0] == numbers[1]
    assert numbers[0] != numbers[2]
