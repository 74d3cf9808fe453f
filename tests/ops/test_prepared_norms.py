"""Norms from running statistics, many at a time: the bits of each by itself."""

import pytest
import torch
from support.comparison import assert_same_bits
from support.devices import cuda_only
from support.operator_suite import random

from ladderseg_fast.ops.batch_norm import batch_norm_forward
from ladderseg_fast.ops.prepared_norms import RunningNorm, prepare_norms

#: More than one launch takes; blocks of 32 channels in full and in part.
CHANNELS = [1, 5, 32, 33, 64, 100, 257] * 14


def running_norms(dtype: torch.dtype) -> list[RunningNorm]:
    norms = []
    for i, channels in enumerate(CHANNELS):
        mean, gamma, beta = (random(channels, seed=3 * i + j, low=-1.0, high=1.0).to(dtype) for j in range(3))
        variance = random(channels, seed=i, low=0.5, high=2.0).to(dtype)
        norms.append(
            RunningNorm(mean, variance, gamma if i % 2 else None, beta if i % 3 else None, epsilon=1e-5 * (1 + i))
        )
    return norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_each_has_the_bits_that_it_has_alone(dtype: torch.dtype) -> None:
    norms = running_norms(dtype)
    for i, (one, (norm, invstd)) in enumerate(zip(norms, prepare_norms(norms), strict=True)):
        running = one.mean, one.variance
        expected, expected_invstd = batch_norm_forward(
            None, running, None, one.gamma, one.beta, one.epsilon, 0.0, 0, dtype
        )
        for name in ("mean", "scale", "shift"):
            assert_same_bits(getattr(norm, name), getattr(expected, name), f"{name} of norm {i}")
        assert_same_bits(invstd, expected_invstd, f"invstd of norm {i}")


def test_none() -> None:
    assert prepare_norms([]) == []


@cuda_only
@pytest.mark.parametrize("name", ["mean", "variance", "gamma", "beta"])
def test_a_vector_of_another_length_is_refused(name: str) -> None:
    vectors = {each: torch.rand(8) for each in ("mean", "variance", "gamma", "beta")}
    vectors[name] = torch.rand(7)
    expected = {"mean": "running_", "variance": "running_variance"}.get(name, name)
    with pytest.raises(ValueError, match=f"^prepare_norms: {expected}"):
        prepare_norms([RunningNorm(**vectors, epsilon=1e-5)])
