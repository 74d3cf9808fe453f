import pytest
import torch
from support.comparison import assert_near
from support.operator_suite import Arguments, DifferentiableOperatorSuite, random

from ladderseg_fast import ops


class TestChannelStatistics(DifferentiableOperatorSuite):
    name = "channel_statistics"
    differentiable = ("x",)
    shapes = [
        (1, 1, 1, 1),
        (1, 3, 1, 1),
        (4, 17, 1, 1),
        (1, 33, 5, 7),
        (3, 130, 3, 2),
        (2, 3, 37, 41),
        (1, 64, 1, 1300),
        (0, 3, 4, 4),
    ]
    small = (2, 3, 3, 2)
    large = (2, 33, 37, 41)

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        return {"x": random(*shape, seed=0, low=-1.0, high=2.0)}

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
    def test_nan_and_infinity_propagate(self, value: float) -> None:
        """To the results and the gradient of their channel, and to no other."""
        x = self.prepared(self.small)["x"].detach()
        x[1, 1, 0, 0] = value
        x.requires_grad_()
        mean, variance = ops.channel_statistics(x)
        expected_mean, expected_variance = ops.reference.channel_statistics(x)
        assert_near(mean, expected_mean, "mean", tolerance=1e-6)
        assert_near(variance, expected_variance, "variance", tolerance=1e-6)
        variance.sum().backward()
        assert not x.grad[:, 1].isfinite().any()
        assert x.grad[:, [0, 2]].isfinite().all()

    def test_constant_channel_has_variance_zero(self) -> None:
        x = torch.full((2, 5, 9, 31), 0.1)
        mean, variance = ops.channel_statistics(x)
        assert_near(mean, x[0, :, 0, 0], "mean", tolerance=1e-6)
        assert variance.max() < 1e-12

    def test_variance_survives_a_large_mean(self) -> None:
        """E[x^2] - E[x]^2 in float32 would leave nothing of a variance of 1/3 beside a mean of 4096.

        PyTorch's batch norm is off by 2e-5 here.
        """
        offset = 4096.0
        x = (random(2, 19, 37, 41, seed=0) + offset).float()
        mean, variance = ops.channel_statistics(x)
        expected_mean, expected_variance = ops.reference.channel_statistics(x.double())
        assert_near(mean.double(), expected_mean, "mean", tolerance=1e-6)
        assert_near(variance.double(), expected_variance, "variance", tolerance=1e-6)

    def test_unused_output(self) -> None:
        """Only one of the two results takes part in the loss."""
        for i in range(2):
            x = self.prepared(self.small, torch.float64)["x"]
            (actual,) = torch.autograd.grad(ops.channel_statistics(x)[i].sum(), x)
            (expected,) = torch.autograd.grad(ops.reference.channel_statistics(x)[i].sum(), x)
            assert_near(actual, expected, f"gradient of x from output {i}")

    @pytest.mark.parametrize("channels", [1, 3, 17, 33, 130])
    def test_is_what_batch_norm_uses(self, channels: int) -> None:
        x = random(2, channels, 5, 7, seed=0)
        mean, variance = ops.channel_statistics(x)
        view = (1, -1, 1, 1)
        normalised = (x - mean.view(view)) * (variance.view(view) + 1e-5).rsqrt()
        expected = torch.nn.functional.batch_norm(x, None, None, training=True)
        assert_near(normalised, expected, "normalised x")
