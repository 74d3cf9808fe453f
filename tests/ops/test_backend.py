"""The choice of backends; and what has no memory of its own does not reach the core."""

import threading

import pytest
import torch
from emulator.process import run_code
from support.devices import cpu_only
from torch._subclasses import FakeTensorMode

from ladderseg_fast.ops.arguments import Norm
from ladderseg_fast.ops.backend import Cpu, RecordedCuda, SymbolicCpu, backend_of, using
from ladderseg_fast.ops.bn_relu import bn_relu_forward
from ladderseg_fast.ops.pointers import address, memory

pytestmark = cpu_only

X = torch.arange(6.0)


@pytest.mark.real_use
def test_address_and_bytes() -> None:
    assert address(X) == X.data_ptr()
    assert memory(X) == (X.data_ptr(), X.get_device(), 24)
    assert memory(None) is None


@pytest.mark.real_use
def test_fake_tensors_have_no_address() -> None:
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(X)
    with pytest.raises(RuntimeError, match="a FakeTensor has no memory"):
        address(fake)


@pytest.mark.real_use
def test_meta_tensors_have_no_address() -> None:
    with pytest.raises(RuntimeError, match="meta device have no memory"):
        address(X.to("meta"))


@pytest.mark.real_use
def test_wrappers_of_torch_func_have_no_address() -> None:
    with pytest.raises(RuntimeError, match="data pointer"):
        torch.vmap(lambda x: x * address(x))(X)


@pytest.mark.real_use
def test_values_behind_a_negative_bit_are_not_in_memory() -> None:
    negative = torch.complex(X, X).conj().imag
    assert negative.is_neg()
    with pytest.raises(RuntimeError, match="resolve_neg"):
        address(negative)


@pytest.mark.real_use
def test_subclasses_that_hold_their_values_have_an_address() -> None:
    class Named(torch.Tensor):
        pass

    assert address(X.as_subclass(Named)) == X.data_ptr()
    assert address(torch.nn.Parameter(X)) == X.data_ptr()


@pytest.mark.real_use
def test_memory_is_contiguous() -> None:
    with pytest.raises(ValueError, match="must be contiguous"):
        memory(X[::2])


def test_a_region_of_another_backend_ends() -> None:
    """In all threads for devices with memory, in this one alone for the meta device; also where there is an error."""
    cpu, meta = torch.device("cpu"), torch.device("meta")
    before = backend_of(cpu), backend_of(meta)
    found = []
    with pytest.raises(KeyError), using(Cpu()) as chosen, using(SymbolicCpu()) as shapes:
        thread = threading.Thread(target=lambda: found.extend((backend_of(cpu), backend_of(meta))))
        thread.start()
        thread.join()
        assert found == [chosen, before[1]]
        assert (backend_of(cpu), backend_of(meta)) == (chosen, shapes)
        raise KeyError
    assert (backend_of(cpu), backend_of(meta)) == before


def test_observers_of_overlapping_regions() -> None:
    """As in two threads: the region that began first ends first, and nothing is left of either."""
    backend = backend_of(torch.device("cpu"))
    found: dict[str, list[str]] = {"first": [], "second": []}
    first, second = (backend.observed_by(lambda name, cost, to=each: to.append(name)) for each in found.values())
    x, norm = torch.zeros(1, 4, 2, 2).to(memory_format=torch.channels_last), Norm(*torch.zeros(3, 4))
    for change in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
        change()
        bn_relu_forward(x, norm, x)
    second.__exit__(None, None, None)
    bn_relu_forward(x, norm, x)
    assert [len(names) for names in found.values()] == [2, 2]


def test_a_device_without_kernels_is_named() -> None:
    with pytest.raises(RuntimeError, match="no kernels for device mps"):
        backend_of(torch.device("mps"))


def test_recordings_nest() -> None:
    """Launches belong to the innermost."""
    x, norm = torch.empty(1, 8, 4, 4, device="meta"), Norm(*torch.zeros(3, 8, device="meta"))
    x = x.to(memory_format=torch.channels_last)
    with using(RecordedCuda(61, 20)) as outer:
        bn_relu_forward(x, norm, x)
        with using(RecordedCuda(80, 108)) as inner:
            bn_relu_forward(x, norm, x)
            bn_relu_forward(x, norm, x)
        bn_relu_forward(x, norm, x)
        assert len(outer.take_records()) == 2 and len(inner.take_records()) == 2
        assert not outer.take_records()
    with pytest.raises(RuntimeError, match="no memory"):
        bn_relu_forward(x, norm, x)


def test_emulation_ends() -> None:
    """Tensors on the CPU are emulated in a region, and worked on by the CPU's kernels after it."""
    run_code("""
import torch
from emulator.emulation import emulated
from ladderseg_fast import ops
from ladderseg_fast.ops.backend import Cpu, backend_of, using

x = torch.linspace(-1, 1, 120).view(2, 5, 3, 4)
arguments = x, torch.zeros(5), torch.ones(5), None, None
for _ in range(2):
    with using(emulated("sm_80")):
        half = ops.bn_relu(x.half(), *arguments[1:])
        assert torch.equal(half, ops.reference.bn_relu(x.half(), *arguments[1:]))
    assert type(backend_of(x.device)) is Cpu
    assert torch.equal(ops.bn_relu(*arguments), ops.reference.bn_relu(*arguments))
    try:
        ops.bn_relu(x.half(), *arguments[1:])
    except TypeError:
        continue
    raise AssertionError("no error")
""")
