"""Each operator's tests run on the devices that ``pytest --devices`` names."""

from collections.abc import Iterator

import pytest
from support.devices import is_left_out, on_device, parametrize_devices
from support.operator_suite import parametrize_shapes, threads


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = metafunc.config.getoption("devices").split(",")
    parametrize_devices(metafunc, names)
    parametrize_shapes(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    names = config.getoption("devices").split(",")
    left_out = {item for item in items if isinstance(item, pytest.Function) and is_left_out(item, names)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the device that tensors on the CPU belong to."""
    with on_device(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Of the CPU's kernels: a part of the shapes for each."""
    with threads(2):
        yield
