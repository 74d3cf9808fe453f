"""What has no memory of its own does not reach the core."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from ladderseg_fast.ops.backend import address, memory

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
