"""What binding a batch norm does to its module: what nn.BatchNorm2d does, and tells autograd of it."""

import copy

import pytest
import torch
from support.comparison import assert_near
from support.operator_suite import random
from torch import Tensor, nn

from ladderseg_fast.lean.batch_norm import bind
from ladderseg_fast.lean.running_norms import RunningNorms
from ladderseg_fast.ops.channel_statistics import mean_and_variance
from ladderseg_fast.ops.layout import pixel_major

CHANNELS = 5


def module_and_twin(momentum: float | None, dtype: torch.dtype) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    module = nn.BatchNorm2d(CHANNELS, momentum=momentum)
    module.running_mean, module.running_var = (random(CHANNELS, seed=s, low=0.5, high=1.0).to(dtype) for s in (1, 2))
    return module, copy.deepcopy(module).double()


def bind_to(module: nn.BatchNorm2d, x: Tensor) -> None:
    if module.training:
        statistics = mean_and_variance(pixel_major(x))
        bind(module, module.weight, module.bias, statistics, x.numel() // CHANNELS, x.dtype)
    else:
        RunningNorms([module], {}, x).of(module)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics(momentum: float | None, dtype: torch.dtype) -> None:
    module, twin = module_and_twin(momentum, dtype)
    for step in range(3):
        x = random(2, CHANNELS, 3, 4, seed=10 + step, low=-1.0, high=3.0).float()
        bind_to(module, x)
        twin(x.double())
    assert module.num_batches_tracked == 3 and module.running_mean.dtype == dtype
    assert_near(module.running_mean.double(), twin.running_mean, "running mean", tolerance=1e-6)
    assert_near(module.running_var.double(), twin.running_var, "running variance", tolerance=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_autograd_hears_of_changes(training: bool) -> None:
    module, _ = module_and_twin(0.1, torch.float32)
    module.train(training)
    scale = torch.ones(CHANNELS, requires_grad=True)
    loss = (scale * module.running_var).sum()  # which saves the running variance
    bind_to(module, random(2, CHANNELS, 3, 4, seed=3).float())
    if training:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    else:
        loss.backward()
        assert torch.equal(scale.grad, module.running_var)


def test_no_running_statistics() -> None:
    module = nn.BatchNorm2d(CHANNELS, track_running_stats=False)
    bind_to(module, random(2, CHANNELS, 3, 4, seed=3).float())
    assert module.running_mean is None


def test_one_value_per_channel() -> None:
    module, _ = module_and_twin(0.1, torch.float32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        bind_to(module, torch.ones(1, CHANNELS, 1, 1))
    assert module.num_batches_tracked == 0


@pytest.mark.real_use
@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize(
    "count",
    [torch.tensor(1.0), torch.tensor(1, dtype=torch.uint8), torch.tensor([1]), None],
    ids=["float32", "uint8", "vector", "none"],
)
def test_counts_that_the_kernel_cannot_write(count: Tensor | None, momentum: float | None) -> None:
    """As load_state_dict(assign=True) leaves them; the kernel wrote eight bytes, into whatever was behind, too."""
    module, twin = module_and_twin(momentum, torch.float32)
    memory = torch.zeros(4, dtype=torch.float32 if count is None else count.dtype)
    if count is not None:
        memory[:1] = count
        count = memory[:1] if count.dim() else memory[0]
    for each in (module, twin):
        each.num_batches_tracked = None if count is None else count.clone()
    if count is not None:
        module.num_batches_tracked = count
    x = random(2, CHANNELS, 3, 4, seed=10, low=-1.0, high=3.0).float()
    bind_to(module, x)
    twin(x.double())
    assert memory.tolist() == ([0] * 4 if count is None else [2, 0, 0, 0])
    assert_near(module.running_mean.double(), twin.running_mean, "running mean", tolerance=1e-6)
    assert_near(module.running_var.double(), twin.running_var, "running variance", tolerance=1e-6)


def test_evaluation_with_an_eps_of_zero() -> None:
    """The running variance may be far from 0; torch refuses it in training alone."""
    module, _ = module_and_twin(0.1, torch.float64)
    module.eval().eps = 0.0
    _, invstd = RunningNorms([module], {}, torch.zeros(1, dtype=torch.float64)).of(module)
    assert_near(invstd, module.running_var.rsqrt(), "invstd")


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"eps": 0.0}, ValueError),
        ({"eps": -1e-3}, ValueError),
        ({"running_mean": torch.zeros(CHANNELS, dtype=torch.int64)}, TypeError),
        ({"running_var": torch.ones(CHANNELS, dtype=torch.complex64)}, TypeError),
        ({"running_mean": torch.zeros(CHANNELS, requires_grad=True)}, RuntimeError),
    ],
)
def test_what_batch_norm_of_torch_refuses(changes: dict[str, object], error: type[Exception]) -> None:
    module = nn.BatchNorm2d(CHANNELS)
    for name, value in changes.items():
        setattr(module, name, value)
    x = random(2, CHANNELS, 3, 4, seed=1).float()
    with pytest.raises((RuntimeError, ValueError)):
        module(x)
    with pytest.raises(error, match=r"eps|running statistics"):
        bind_to(module, x)
