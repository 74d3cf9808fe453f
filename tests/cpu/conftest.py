"""The headers of csrc/cpu, compiled as the package compiles them: once per instruction set and element."""

import itertools

import pytest
from cpu.headers import ELEMENTS, Headers, load_headers

from ladderseg_fast import _core

CHOICES = list(itertools.product(_core.supported_instruction_sets(), ELEMENTS))


@pytest.fixture(scope="session", params=CHOICES, ids="-".join)
def headers(request: pytest.FixtureRequest) -> Headers:
    return load_headers(*request.param)
