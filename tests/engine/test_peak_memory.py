"""The peak of the resident set."""

import numpy as np
import torch

from ladderseg_fast.engine import peak_memory
from ladderseg_fast.engine import peak_memory as function
from ladderseg_fast.engine.peak_memory import _maximum_resident_set

CPU = torch.device("cpu")
MIB = 2**20


def test_sees_memory_that_was_given_back():
    before = peak_memory(CPU)
    block = np.ones(int(before) + 64 * MIB, np.uint8)
    during = peak_memory(CPU)
    del block
    assert during >= before + 32 * MIB
    # the kernel batches its counts per thread
    assert function(CPU) >= during - 8 * MIB


def test_the_two_sources_agree():
    assert abs(peak_memory(CPU) - _maximum_resident_set()) < 0.1 * peak_memory(CPU)
