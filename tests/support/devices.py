"""The devices on which the operators' suites run: the CPU's kernels, and CUDA kernels on the emulator."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch
from emulator.emulation import emulated

from ladderseg_fast.ops.backend import Cpu, Cuda, using

CPU = "cpu"

#: All floating-point types that a device may have.
FLOATING_POINT = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

cpu_only = pytest.mark.devices("cpu")
cuda_only = pytest.mark.devices("cuda")
tensor_cores_only = pytest.mark.devices("tensor cores")


def _is_of_kind(name: str, kind: str) -> bool:
    if kind == "tensor cores":
        return name not in (CPU, "sm_61")
    return (name == CPU) == (kind == "cpu")


def dtypes_of(name: str) -> tuple[torch.dtype, ...]:
    """What feature maps can be of."""
    return Cpu().dtypes if name == CPU else Cuda.dtypes


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """In this region, tensors on the CPU are the device's."""
    if name == CPU:
        yield
        return
    with using(emulated(name)):
        yield


def parametrize_devices(metafunc: pytest.Metafunc, names: Iterable[str]) -> None:
    """The fixture `device` takes these names, and `map_dtype` and `refused_dtype` what they take and refuse.

    Of several architectures only the last runs what is neither for each dtype of maps nor marked for a kind of device:
    such tests are of arguments, layouts or float64, for which kernels and their callers are the same everywhere.
    """
    kinds = [mark.args[0] for mark in metafunc.definition.iter_markers("devices")]
    names = [name for name in names if all(_is_of_kind(name, kind) for kind in kinds)]
    dtype = next((name for name in ("map_dtype", "refused_dtype") if name in metafunc.fixturenames), None)
    if dtype != "map_dtype" and not kinds:
        names = [name for name in names if name in (CPU, *_last(names))]
    if dtype is None:
        metafunc.parametrize("device", names, indirect=True)
        return
    values = [
        (name, value) for name in names for value in (_of_maps(name, names) if dtype == "map_dtype" else _refused(name))
    ]
    ids = [f"{name}-{value}" for name, value in values]
    metafunc.parametrize(("device", dtype), values, ids=ids, indirect=["device"])


def in_turn(argument: str, count: int) -> pytest.MarkDecorator:
    """On emulated devices each shape and dtype has one of the `count` values of `argument`, in turn; every two of the
    three meet. On the CPU each has all.
    """
    return pytest.mark.in_turn(argument, count)


def is_left_out(test: pytest.Function, names: list[str]) -> bool:
    """Whether a device, a dtype of maps and a shape, size or layout are left to another of the devices `names`."""
    if not hasattr(test, "callspec"):  # it has no parameters
        return False
    values, numbers = test.callspec.params, test.callspec.indices
    shape = next((numbers[name] for name in ("shape", "size", "layout") if name in numbers), None)
    if values.get("device", CPU) == CPU or shape is None or "map_dtype" not in values:
        return False
    number = FLOATING_POINT.index(values["map_dtype"]) + shape
    return _left_to_the_cpu(test, number) or _left_to_another_architecture(test, names, number)


def _left_to_the_cpu(test: pytest.Function, number: int) -> bool:
    """By in_turn."""
    mark = test.get_closest_marker("in_turn")
    if mark is None:
        return False
    argument, count = mark.args
    return (number + test.callspec.indices[argument]) % count != 0


def _left_to_another_architecture(test: pytest.Function, names: list[str], number: int) -> bool:
    """Of several that take the dtype each has its share: every two of architecture, dtype and shape meet."""
    values = test.callspec.params
    kinds = [each.args[0] for each in test.iter_markers("devices")]
    sharing = [
        name
        for name in names
        if name != CPU
        and all(_is_of_kind(name, kind) for kind in kinds)
        and values["map_dtype"] in _of_maps(name, names)
    ]
    return (number + sharing.index(values["device"])) % len(sharing) != 0


def _of_maps(name: str, names: list[str]) -> list[torch.dtype]:
    """What feature maps can be of. float64, for which most kernels have the same PTX everywhere, is left to the last
    of several architectures."""
    return [dtype for dtype in dtypes_of(name) if dtype != torch.float64 or name in (CPU, *_last(names))]


def _last(names: list[str]) -> list[str]:
    """The last architecture, if there is one."""
    return [name for name in names if name != CPU][-1:]


def _refused(name: str) -> list[torch.dtype]:
    return [dtype for dtype in (*FLOATING_POINT, torch.int64) if dtype not in dtypes_of(name)]
