import pytest
import torch
from support.lean_equals_plain import assert_lean_equals_plain, randomise
from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.lean.program import Program, run
from ladderseg_fast.lean.sections import skip_stage
from ladderseg_fast.lean.stages.head import HeadStage
from ladderseg_fast.lean.stages.transition_up import TransitionUpStage
from ladderseg_fast.nn import Head, TransitionUp


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

    def test_batch_sizes_that_differ(self) -> None:
        with pytest.raises(ValueError, match="coarse and skip must have the same batch size, got 2 and 3"):
            lean.transition_up(self.module(), *self.inputs(((2, 6, 3, 4), (3, 13, 5, 7))))

    def test_coarse_features_that_another_stage_reads(self) -> None:
        """As an auxiliary head does, whose backward comes first."""
        both = nn.ModuleList([self.module(), randomise(Head(6, num_classes=4), 1).double()])

        def in_one_program(modules: nn.ModuleList, coarse: Tensor, skip: Tensor) -> Tensor:
            up, head = modules
            stages = [
                skip_stage(up, "skip", "projected"),
                TransitionUpStage(up, "coarse", "skip", "projected", "out"),
                HeadStage(head, "coarse", "scores"),
            ]
            return _joined(*run(Program(stages, ("coarse", "skip"), ("out", "scores")), [coarse, skip]))

        def plain(modules: nn.ModuleList, coarse: Tensor, skip: Tensor) -> Tensor:
            return _joined(modules[0](coarse, skip), modules[1](coarse))

        assert_lean_equals_plain(both, in_one_program, plain, self.steps())


def _joined(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first.flatten(), second.flatten()])
