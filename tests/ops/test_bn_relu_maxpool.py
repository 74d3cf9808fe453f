import pytest
import torch
from support.bn_operator_suite import BnOperatorSuite, bn_arguments
from support.operator_suite import Arguments, random


class TestBnReluMaxpool(BnOperatorSuite):
    name = "bn_relu_maxpool"
    shapes = [
        (1, 1, 1, 1),
        (1, 3, 1, 2),
        (4, 17, 2, 1),
        (1, 33, 5, 7),
        (3, 130, 4, 3),
        (2, 3, 75, 83),
        (1, 64, 1, 1300),
        (0, 3, 4, 4),
    ]
    small = (2, 3, 5, 4)
    large = (2, 33, 75, 83)

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        """All pixels of a channel differ by much more than rounding, which could else decide between two maxima."""
        n, c, h, w = shape
        pixels = n * h * w
        ranks = torch.stack([random(pixels, seed=10 + i).argsort() for i in range(c)])
        x = (ranks + 0.5) / max(pixels, 1) * 4.0 - 2.0
        return bn_arguments(x.double().view(c, n, h, w).transpose(0, 1).contiguous())

    def test_tie_goes_to_the_first(self) -> None:
        """Of equal maxima the first in row-major order gets the gradient, as in F.max_pool2d."""
        x = random(2, 17, 9, 11, seed=0, low=0.0, high=3.0).floor()
        ones, zeros = torch.ones(17).double(), torch.zeros(17).double()
        vectors = {"mean": zeros, "invstd": ones, "gamma": ones, "beta": zeros + 0.5}
        self.check(self.prepared(self.small, x=x, **vectors))

    def test_no_pixel_to_be_pooled(self) -> None:
        with pytest.raises(ValueError, match=r"x must have at least one pixel to be pooled, got shape \(2, 3, 0, 4\)"):
            self.operator()(**bn_arguments(torch.zeros(2, 3, 0, 4).double()))

    def test_all_negative_passes_no_gradient(self) -> None:
        arguments = self.arguments(self.small)
        arguments["beta"] = torch.full_like(arguments["beta"], -100.0)
        self.check(self.prepared(self.small, **arguments))
