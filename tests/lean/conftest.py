from collections.abc import Iterator

import pytest
from emulator.emulation import emulated
from support.operator_suite import parametrize_shapes, threads

from ladderseg_fast.ops.backend import EmulatedCuda, using


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize_shapes(metafunc)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Of the kernels: a part of the shapes for each."""
    with threads(2):
        yield


@pytest.fixture
def device() -> Iterator[EmulatedCuda]:
    """The emulated device on which all tensors lie."""
    backend = emulated("sm_80")
    with using(backend):
        yield backend
