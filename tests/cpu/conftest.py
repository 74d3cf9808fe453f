"""The headers of csrc/cpu, compiled as the package compiles them: once per instruction set and element."""

import itertools

import pytest
from cpu.headers import ELEMENTS, Headers, load_headers

from ladderseg_fast import _core

#: Neither element has instructions of avx512_bf16, which are for bfloat16 alone.
INSTRUCTION_SETS = [name for name in _core.supported_instruction_sets() if name != "avx512_bf16"]
CHOICES = list(itertools.product(INSTRUCTION_SETS, ELEMENTS))


@pytest.fixture(scope="session", params=CHOICES, ids="-".join)
def headers(request: pytest.FixtureRequest) -> Headers:
    return load_headers(*request.param)
