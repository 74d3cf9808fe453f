"""The peak of the resident set, in a process of its own: that of the tests depends on what ran before."""

import subprocess
import sys

CODE = """
from importlib import import_module
import numpy, torch
module = import_module("ladderseg_fast.memory.process")
cpu = torch.device("cpu")
before = module.peak_memory(cpu)
block = numpy.ones(200 * 2**20, numpy.uint8)
during = module.peak_memory(cpu)
del block
print(before, during, module.peak_memory(cpu), module._maximum_resident_set())
"""
MIB = 2**20


def test_peak_remembers_memory_that_was_given_back(tmp_path):
    result = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=True)
    before, during, after, other_source = map(int, result.stdout.split())
    assert before > 50 * MIB
    # The kernel counts pages in batches, so that a few MiB come late.
    assert 180 * MIB < during - before < 220 * MIB
    assert abs(after - during) < 10 * MIB
    # getrusage also remembers the process that this one was forked from.
    assert other_source > after - 10 * MIB
