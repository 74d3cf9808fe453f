import pytest
from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.nn import Context


class TestContext(StageSuite):
    shapes = [((2, 13, 5, 7),), ((1, 13, 8, 4),), ((3, 13, 1, 1),), ((2, 13, 20, 33),)]
    usual = ((2, 13, 5, 7),)
    single_value = ((1, 13, 1, 1),)

    def make(self) -> Context:
        return Context(13, hidden_channels=9, out_channels=6)

    def lean(self, module: nn.Module, features: Tensor, **options: object) -> Tensor:
        return lean.context(module, features, **options)

    @pytest.mark.parametrize("dilation", [1, 3])
    def test_dilation(self, dilation: int) -> None:
        module = Context(13, hidden_channels=9, out_channels=6, dilation=dilation).double()
        self.check(module, self.steps())
