"""What the operators that begin with batch norm and ReLU promise beside operator_suite.py."""

import pytest
import torch
from support.operator_suite import Arguments, DifferentiableOperatorSuite, random
from torch import Tensor

VECTORS = ("mean", "invstd", "gamma", "beta")


def bn_arguments(x: Tensor) -> Arguments:
    """x [N, C, H, W] and mean, invstd, gamma, beta [C], where no pixel is at the kink of the ReLU.

    There rounding would decide the gradient. So x is moved a little until |y| is at least 0.05.
    """
    channels = x.shape[1]
    sign = random(channels, seed=1).sign()
    mean = random(channels, seed=2, low=-0.5, high=0.5)
    invstd = random(channels, seed=3, low=0.5, high=2.0)
    gamma = random(channels, seed=4, low=0.5, high=1.5) * sign
    beta = random(channels, seed=5, low=-0.3, high=0.7)
    scale = (invstd * gamma).view(1, -1, 1, 1)
    y = (x - mean.view(1, -1, 1, 1)) * scale + beta.view(1, -1, 1, 1)
    x = x + 0.05 * torch.where(y > 0, 1.0, -1.0) / scale
    return {"x": x.float().double(), "mean": mean, "invstd": invstd, "gamma": gamma, "beta": beta}


class BnOperatorSuite(DifferentiableOperatorSuite):
    """`shape` is (N, C, H, W, ...)."""

    optional = ("gamma", "beta")
    differentiable = ("x", *VECTORS)

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        return bn_arguments(random(*shape[:4], seed=0, low=-2.0, high=2.0))

    def test_gamma_zero(self) -> None:
        """y is beta then, and the gradient of gamma still depends on x."""
        gamma = self.arguments(self.small)["gamma"].clone()
        gamma[::2] = 0.0
        self.check(self.prepared(self.small, gamma=gamma))

    @pytest.mark.parametrize("wrong", ["longer", "shorter", "matrix", "number"])
    @pytest.mark.parametrize("key", VECTORS)
    def test_vector_does_not_fit(self, key: str, wrong: str) -> None:
        arguments = self.prepared(self.small, gradients=False)
        vector = arguments[key]
        arguments[key] = {
            "longer": vector.repeat(2),
            "shorter": vector[:-1],
            "matrix": vector[None],
            "number": vector[0],
        }[wrong]
        with pytest.raises(ValueError, match=rf"\b{key}\b"):
            self.operator()(**arguments)

    @pytest.mark.parametrize("key", ["mean", "invstd"])
    def test_statistics_are_required(self, key: str) -> None:
        with pytest.raises(TypeError, match=rf"\b{key}\b"):
            self.operator()(**self.prepared(self.small) | {key: None})


class BnConvOperatorSuite(BnOperatorSuite):
    """`shape` ends with M, the output channels of the convolution."""

    differentiable = ("x", *VECTORS, "weight")

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        return super().arguments(shape) | {"weight": random(shape[-1], shape[1], 1, 1, seed=6)}

    @pytest.mark.parametrize("wrong", ["channels", "kernel", "rank"])
    def test_weight_does_not_fit(self, wrong: str) -> None:
        arguments = self.prepared(self.small, gradients=False)
        weight = arguments["weight"]
        arguments["weight"] = {
            "channels": torch.cat([weight, weight], dim=1),
            "kernel": weight[:, :, :1, :1].expand(-1, -1, 2, 2),
            "rank": weight[:, :, 0, 0],
        }[wrong]
        with pytest.raises(ValueError, match=r"\bweight\b"):
            self.operator()(**arguments)

    def test_weight_in_any_layout(self) -> None:
        weight = self.arguments(self.small)["weight"]
        self.check(self.prepared(self.small, weight=weight.transpose(0, 1).contiguous().transpose(0, 1)))
        self.check(self.prepared(self.small, weight=torch.cat([weight, weight])[::2]))
