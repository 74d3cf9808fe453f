import torch
from support.bn_operator_suite import BnOperatorSuite
from support.comparison import assert_near
from support.operator_suite import random

from ladderseg_fast import ops


class TestBnRelu(BnOperatorSuite):
    name = "bn_relu"
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

    def test_with_channel_statistics_it_is_batch_norm_and_relu(self) -> None:
        """Gradients included: the batch statistics are differentiated too."""
        x = random(2, 17, 5, 7, seed=0).requires_grad_()
        norm = torch.nn.BatchNorm2d(17, dtype=torch.float64)
        mean, variance = ops.channel_statistics(x)
        actual = ops.bn_relu(x, mean, (variance + norm.eps).rsqrt(), norm.weight, norm.bias)
        expected = torch.relu(norm(x))
        assert_near(actual, expected, "output")
        incoming = random(*x.shape, seed=1)
        for key, leaf in {"x": x, "gamma": norm.weight, "beta": norm.bias}.items():
            (a,) = torch.autograd.grad(actual, leaf, incoming, retain_graph=True)
            (b,) = torch.autograd.grad(expected, leaf, incoming, retain_graph=True)
            assert_near(a, b, f"gradient of {key}")
