"""Batch norm's arithmetic on vectors: what torch's own batch norm says."""

import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_near
from support.operator_suite import random
from torch import Tensor

from ladderseg_fast.ops.arguments import BnSums, Correction, Norm
from ladderseg_fast.ops.batch_norm import batch_norm_backward, batch_norm_forward

CHANNELS, EPSILON, MOMENTUM = 37, 1e-3, 0.2
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def vectors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """running_mean, running_variance, gamma, beta."""
    mean, gamma, beta = (random(CHANNELS, seed=seed, low=-1.0, high=1.0).to(dtype) for seed in (1, 2, 3))
    return mean, random(CHANNELS, seed=4, low=0.5, high=2.0).to(dtype), gamma, beta


def maps() -> Tensor:
    return random(2, CHANNELS, 3, 5, seed=5, low=-2.0, high=2.0)


def statistics_of(x: Tensor) -> Tensor:
    # A range of the channels of wider statistics, as a dense layer reads them.
    wide = torch.full((2, CHANNELS + 3), torch.nan, dtype=torch.float64)
    wide[:, :CHANNELS] = torch.stack([x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)])
    return wide[:, :CHANNELS]


def normalised(x: Tensor, norm: Norm) -> Tensor:
    mean, scale, shift = (v.double().view(1, -1, 1, 1) for v in (norm.mean, norm.scale, norm.shift))
    return (x - mean) * scale + shift


@pytest.mark.parametrize("affine", [True, False])
def test_of_a_batch(dtype: torch.dtype, affine: bool) -> None:
    running_mean, running_variance, gamma, beta = vectors(dtype)
    gamma, beta = (gamma, beta) if affine else (None, None)
    x, batches = maps(), torch.tensor(41)
    updated = running_mean.double().clone(), running_variance.double().clone()
    arguments = [None if v is None else v.double() for v in (gamma, beta)]
    expected = F.batch_norm(x, *updated, *arguments, training=True, momentum=MOMENTUM, eps=EPSILON)
    positions = x.numel() // CHANNELS
    norm, invstd = batch_norm_forward(
        statistics_of(x), (running_mean, running_variance), batches, gamma, beta, EPSILON, MOMENTUM, positions, dtype
    )
    assert_near(normalised(x, norm), expected, "normalised", tolerance=TOLERANCE[dtype])
    assert_near(invstd, (statistics_of(x)[1] + EPSILON).rsqrt(), "invstd", tolerance=1e-14)
    assert_near(running_mean.double(), updated[0], "running mean", tolerance=TOLERANCE[dtype])
    assert_near(running_variance.double(), updated[1], "running variance", tolerance=TOLERANCE[dtype])
    assert batches == 42


def test_of_running_statistics(dtype: torch.dtype) -> None:
    running_mean, running_variance, gamma, beta = vectors(dtype)
    before = running_mean.clone(), running_variance.clone()
    x = maps()
    expected = F.batch_norm(x, *(v.double() for v in (running_mean, running_variance, gamma, beta)), eps=EPSILON)
    running = running_mean, running_variance
    norm, _ = batch_norm_forward(None, running, None, gamma, beta, EPSILON, 0.0, x.numel() // CHANNELS, dtype)
    assert_near(normalised(x, norm), expected, "normalised", tolerance=TOLERANCE[dtype])
    assert torch.equal(running_mean, before[0]) and torch.equal(running_variance, before[1])


def test_nothing_is_updated_without_running_statistics(dtype: torch.dtype) -> None:
    x = maps()
    norm, _ = batch_norm_forward(statistics_of(x), None, None, None, None, EPSILON, 0.0, x.numel() // CHANNELS, dtype)
    expected = F.batch_norm(x, None, None, training=True, eps=EPSILON)
    assert_near(normalised(x, norm), expected, "normalised", tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("accumulate", [False, True])
def test_backward(dtype: torch.dtype, accumulate: bool) -> None:
    *_, gamma, beta = vectors(dtype)
    x, m = maps().requires_grad_(), random(2, CHANNELS, 3, 5, seed=6, low=-1.0, high=1.0)
    wide_gamma, wide_beta = (v.double().requires_grad_() for v in (gamma, beta))
    F.batch_norm(x, None, None, wide_gamma, wide_beta, training=True, eps=EPSILON).backward(m)
    detached, positions = x.detach(), x.numel() // CHANNELS
    norm, invstd = batch_norm_forward(statistics_of(detached), None, None, gamma, beta, EPSILON, 0.0, positions, dtype)
    centred = detached - norm.mean.double().view(1, -1, 1, 1)
    sums = BnSums(m.sum(dim=(0, 2, 3)), (m * centred).sum(dim=(0, 2, 3)))
    before = torch.full((CHANNELS,), 0.25 if accumulate else torch.nan, dtype=dtype)
    correction = Correction(before.clone(), before.clone(), before.clone())
    grad_gamma, grad_beta = batch_norm_backward(sums, invstd, norm, positions, correction, accumulate)
    assert_near(grad_gamma.double(), wide_gamma.grad, "grad_gamma", tolerance=10 * TOLERANCE[dtype])
    assert_near(grad_beta.double(), wide_beta.grad, "grad_beta", tolerance=10 * TOLERANCE[dtype])
    offset = 0.25 if accumulate else 0.0
    constant, slope = (v.double().view(1, -1, 1, 1) - offset for v in (correction.constant, correction.slope))
    grad_x = norm.scale.double().view(1, -1, 1, 1) * m - constant - slope * centred
    assert_near(grad_x, x.grad, "grad_x", tolerance=10 * TOLERANCE[dtype])
    assert torch.equal(correction.mean, norm.mean)


def test_backward_of_a_frozen_one(dtype: torch.dtype) -> None:
    running_mean, running_variance, gamma, beta = vectors(dtype)
    norm, invstd = batch_norm_forward(
        None, (running_mean, running_variance), None, gamma, beta, EPSILON, 0.0, 30, dtype
    )
    masked, centred = random(CHANNELS, seed=7), random(CHANNELS, seed=8)
    grad_gamma, grad_beta = batch_norm_backward(BnSums(masked, centred), invstd, norm, 30, None, False)
    assert_near(grad_gamma.double(), centred * invstd, "grad_gamma", tolerance=TOLERANCE[dtype])
    assert_near(grad_beta.double(), masked, "grad_beta", tolerance=TOLERANCE[dtype])
