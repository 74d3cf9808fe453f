from collections.abc import Iterator

import pytest
from support.operator_suite import parametrize_shapes, threads


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize_shapes(metafunc)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Of the kernels: a part of the shapes for each."""
    with threads(2):
        yield
