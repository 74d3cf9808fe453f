from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.nn import Head


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
