from stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.nn import PyramidContext


class TestPyramidContext(StageSuite):
    shapes = [((2, 13, 5, 7),), ((1, 13, 8, 4),), ((3, 13, 1, 1),), ((2, 13, 20, 33),)]
    usual = ((2, 13, 5, 7),)
    single_value = ((1, 13, 1, 1),)

    def make(self) -> PyramidContext:
        return PyramidContext(13, hidden_channels=12, out_channels=6)

    def lean(self, module: nn.Module, features: Tensor, **options: object) -> Tensor:
        return lean.context(module, features, **options)
