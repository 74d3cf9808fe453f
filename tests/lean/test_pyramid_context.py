from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.nn import PyramidContext


class TestPyramidContext(StageSuite):
    # Batch norm makes 0 of a single bin of one image and +-1 of those of two, whatever the weights are: so more.
    shapes = [((5, 13, 5, 7),), ((3, 13, 8, 4),), ((4, 13, 1, 1),), ((5, 13, 9, 13),)]
    usual = ((5, 13, 5, 7),)
    single_value = ((1, 13, 1, 1),)

    def make(self) -> PyramidContext:
        return PyramidContext(13, hidden_channels=12, out_channels=6)

    def lean(self, module: nn.Module, features: Tensor, **options: object) -> Tensor:
        return lean.context(module, features, **options)

    def test_constant_projection(self) -> None:
        """The levels' batch norm then has a gradient, and the map that it reads has none."""
        module = self.module()
        module.norm1.requires_grad_(False)
        module.conv1.requires_grad_(False)
        self.check(module, [[x.detach() for x in self.inputs()]])
