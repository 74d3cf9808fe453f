from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.nn import TransitionUp


class TestTransitionUp(StageSuite):
    """Shapes are those of the coarse features and of the skip connection."""

    shapes = [
        ((2, 6, 3, 4), (2, 13, 5, 7)),
        ((1, 6, 2, 2), (1, 13, 4, 4)),
        ((3, 6, 1, 1), (3, 13, 2, 1)),
        ((2, 6, 5, 7), (2, 13, 5, 7)),  # the same size
        ((2, 6, 17, 19), (2, 13, 33, 37)),
    ]
    usual = ((2, 6, 3, 4), (2, 13, 5, 7))
    single_value = ((1, 6, 1, 1), (1, 13, 1, 1))

    def make(self) -> TransitionUp:
        return TransitionUp(coarse_channels=6, skip_in_channels=13, skip_channels=7, out_channels=5)

    def lean(self, module: nn.Module, coarse: Tensor, skip: Tensor, **options: object) -> Tensor:
        return lean.transition_up(module, coarse, skip, **options)

    def test_usual_widths(self) -> None:
        module = TransitionUp(128, 256, 128, 128).double()
        self.check(module, [self.inputs(((1, 128, 9, 12), (1, 256, 17, 23)))])
