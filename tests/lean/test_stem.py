import torch.nn.functional as F
from stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean


class Stem(nn.Module):
    """The first two children of DenseNetFeatures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        self.norm0 = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.norm0(self.conv0(images))), 3, stride=2, padding=1)


class TestStem(StageSuite):
    shapes = [((2, 3, 13, 18),), ((1, 3, 16, 16),), ((3, 3, 2, 1),), ((1, 3, 7, 5),), ((2, 3, 65, 97),)]
    usual = ((2, 3, 13, 18),)
    single_value = ((1, 3, 2, 2),)

    def make(self) -> Stem:
        return Stem()

    def lean(self, module: nn.Module, images: Tensor, **options: object) -> Tensor:
        return lean.stem(module.conv0, module.norm0, images, **options)
