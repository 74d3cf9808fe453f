import pytest
import torch
from support.stage_suite import StageSuite
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ladderseg_fast import lean
from ladderseg_fast.nn import Head


class First(nn.Module):
    def forward(self, vector: Tensor) -> Tensor:
        return vector[:1]


class TestHead(StageSuite):
    shapes = [((2, 13, 5, 7),), ((1, 13, 8, 4),), ((3, 13, 1, 1),), ((2, 13, 41, 33),)]
    usual = ((2, 13, 5, 7),)
    single_value = ((1, 13, 1, 1),)

    def make(self) -> Head:
        return Head(13, num_classes=4)

    def lean(self, module: nn.Module, features: Tensor, **options: object) -> Tensor:
        return lean.head(module, features, **options)

    def test_one_class(self) -> None:
        self.check(Head(13, num_classes=1).double(), self.steps())

    def test_parametrized_bias_of_another_shape(self) -> None:
        """Nothing knows the shape before it is computed, and one number would be added to all classes."""
        head = Head(13, num_classes=4)
        parametrize.register_parametrization(head.conv, "bias", First(), unsafe=True)
        with pytest.raises(ValueError, match=r"a head's bias must be \[4\], got shape \(1,\)"):
            lean.head(head, torch.rand(1, 13, 2, 3))
