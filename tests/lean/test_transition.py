from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.nn import Transition


class TestTransition(StageSuite):
    shapes = [((2, 13, 5, 7),), ((1, 13, 8, 4),), ((3, 13, 2, 2),), ((2, 13, 41, 66),)]
    usual = ((2, 13, 5, 7),)
    single_value = ((1, 13, 1, 1),)
    single_pixel = ((1, 13, 2, 2),)

    def make(self) -> Transition:
        return Transition(13, 6)

    def lean(self, module: nn.Module, features: Tensor, **options: object) -> Tensor:
        return lean.transition(module, features, **options)


class TestTransitionWithoutPooling(TestTransition):
    single_pixel = None

    def make(self) -> Transition:
        return Transition(13, 6, pooled=False)
