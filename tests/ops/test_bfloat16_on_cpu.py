"""bfloat16 on the CPU: rounding, and what happens where the instruction set in use does not multiply it."""

from collections.abc import Iterator

import pytest
import torch
from support.comparison import assert_same_bits
from support.devices import cpu_only
from support.operator_suite import instruction_set, random

from ladderseg_fast import _core, ops
from ladderseg_fast.ops.backend import Cpu

pytestmark = cpu_only

on_bfloat16 = pytest.mark.skipif(not _core.has_bfloat16(), reason="needs a processor with AVX512-BF16")


@pytest.fixture
def without_bfloat16() -> Iterator[None]:
    with instruction_set("baseline"):
        yield


@on_bfloat16
@pytest.mark.parametrize("channels", [1, 5, 16, 51])
def test_results_are_rounded_once_to_the_nearest(channels: int) -> None:
    """Ties go to the even number. Sums of two numbers are exact in float32, so only the last rounding is seen."""
    a, b = (random(1, channels, 6, 7, seed=seed, low=0.0).bfloat16() for seed in (1, 2))
    tie = torch.tensor([1.0 + 2**-7, 1.0, 1.0]), torch.tensor([2**-8, 2**-8, 2**-8 + 2**-15])
    a.view(-1)[:3], b.view(-1)[:3] = tie[0].bfloat16(), tie[1].bfloat16()
    x = torch.cat([a, b], dim=1)
    vectors = torch.zeros(2 * channels), torch.ones(2 * channels), None, None
    weight = torch.eye(channels).repeat(1, 2).view(channels, 2 * channels, 1, 1).bfloat16()
    expected = (a.float() + b.float()).bfloat16()
    assert expected.view(-1)[:3].tolist() == [1.0 + 2**-6, 1.0, 1.0 + 2**-7]
    assert_same_bits(ops.bn_relu_conv1x1(x, *vectors, weight), expected, "sum")


@on_bfloat16
def test_the_dtypes_are_those_of_the_instruction_set_in_use() -> None:
    assert torch.bfloat16 in Cpu().dtypes
    with instruction_set("baseline"):
        assert Cpu().dtypes == (torch.float32, torch.float64)


@pytest.mark.real_use
def test_maps_are_refused_where_it_is_not_multiplied(without_bfloat16: None) -> None:
    x = torch.zeros(1, 4, 2, 2, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="x must be float32 or float64 on cpu, got torch.bfloat16"):
        ops.bn_relu(x, torch.zeros(4), torch.ones(4), None, None)


@pytest.mark.real_use
def test_the_core_refuses_what_it_does_not_have(without_bfloat16: None) -> None:
    with pytest.raises(ValueError, match="instruction set baseline has no bfloat16"):
        _core.product_rate(_core.Cpu(_core.Element.bfloat16, 1), 1)
    with pytest.raises(ValueError, match="no kernels for float16 on the CPU"):
        _core.Cpu(_core.Element.float16, 1)
