import copy

import pytest
import torch
from support.comparison import assert_near
from support.kept_bytes import kept_bytes
from support.lean_equals_plain import assert_lean_equals_plain
from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.nn import DenseBlock


class TestDenseBlock(StageSuite):
    shapes = [((2, 13, 5, 7),), ((1, 13, 9, 4),), ((3, 13, 1, 1),), ((2, 13, 20, 33),)]
    usual = ((2, 13, 5, 7),)
    single_value = ((1, 13, 1, 1),)

    def make(self) -> DenseBlock:
        return DenseBlock(13, layers=4, growth_rate=5, bottleneck_width=3)

    def lean(self, module: nn.Module, features: Tensor, **options: object) -> Tensor:
        return lean.dense_block(module, features, **options)

    @pytest.mark.parametrize("part", [(0, 2), (2, None), (1, 3), (3, 4)], ids=str)
    def test_part_of_the_layers(self, part: tuple[int, int | None]) -> None:
        start, stop = part
        inputs = self.inputs(((2, 13 + 5 * start, 5, 7),))
        assert_lean_equals_plain(
            self.module(),
            lambda block, x: lean.dense_block(block, x, start, stop),
            lambda block, x: block(x, start, stop),
            [inputs],
        )

    def test_no_layers(self) -> None:
        (x,) = self.inputs(((2, 13 + 5 * 2, 5, 7),))
        assert torch.equal(lean.dense_block(self.module(), x, 2, 2), x)

    def test_parts_make_the_whole(self) -> None:
        def in_parts(block: nn.Module, x: Tensor) -> Tensor:
            return lean.dense_block(block, lean.dense_block(block, x, stop=2), start=2)

        assert_lean_equals_plain(self.module(), in_parts, self.plain, self.steps(), learning_rate=0.01)

    def test_usual_widths(self) -> None:
        """Growth rate 32 and bottleneck 128, over more than one tile of pixels."""
        torch.manual_seed(0)
        block = DenseBlock(64, layers=3).double()
        self.check(block, [self.inputs(((2, 64, 17, 37),))])

    @pytest.mark.parametrize("dilation", [2, 4])
    def test_dilation(self, dilation: int) -> None:
        block = DenseBlock(13, layers=3, growth_rate=5, bottleneck_width=3, dilation=dilation).double()
        self.check(block, self.steps())

    def test_output_starts_with_the_input(self) -> None:
        (x,) = self.inputs()
        output = lean.dense_block(self.module(), x)
        assert_near(output[:, :13], x, "first channels", tolerance=0.0)

    def test_keeps_one_buffer(self) -> None:
        """Between forward and backward it keeps one map of all channels, where the plain block keeps many more."""
        block = DenseBlock(64, layers=6)
        x = torch.randn(1, 64, 32, 32, requires_grad=True)
        kept = kept_bytes(lambda: lean.dense_block(block, x))
        assert kept < 1.2 * (64 + 6 * 32) * 32 * 32 * 4 + 8 * _parameters(block)
        assert kept < 0.25 * kept_bytes(lambda: copy.deepcopy(block)(x))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
