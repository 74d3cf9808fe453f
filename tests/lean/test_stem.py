import pytest
import torch
import torch.nn.functional as F
from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean


class Stem(nn.Module):
    """The first two children of DenseNetFeatures."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.norm0 = nn.BatchNorm2d(channels)

    def forward(self, images: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.norm0(self.conv0(images))), 3, stride=2, padding=1)


class TestStem(StageSuite):
    shapes = [
        ((2, 3, 13, 18),),
        ((1, 3, 16, 16),),
        ((3, 3, 2, 1),),
        ((1, 3, 7, 5),),
        ((2, 3, 65, 97),),
        ((2, 3, 37, 531),),  # several chunks of columns
    ]
    usual = ((2, 3, 13, 18),)
    single_value = ((1, 3, 2, 2),)

    def make(self) -> Stem:
        return Stem()

    def lean(self, module: nn.Module, images: Tensor, **options: object) -> Tensor:
        return lean.stem(module.conv0, module.norm0, images, **options)

    def test_usual_width(self) -> None:
        """More channels than one panel of the product, as the DenseNet's stem has."""
        stem = Stem(channels=64).double()
        self.check(stem, [self.inputs(((1, 3, 21, 300),))])

    @pytest.mark.parametrize("option", [{"stride": 1}, {"bias": True}, {"padding": 2}], ids=str)
    def test_other_convolutions_are_refused(self, option: dict) -> None:
        stem = self.module()
        stem.conv0 = nn.Conv2d(3, 8, 7, **{"stride": 2, "padding": 3, "bias": False} | option).double()
        with pytest.raises(lean.UnsupportedModuleError, match="^conv has"):
            self.lean(stem, *self.inputs())

    def test_negative_and_zero_gamma(self) -> None:
        """The pooled maximum comes from the smallest value where gamma is negative, from the first where it is 0."""
        stem = self.module()
        with torch.no_grad():
            stem.norm0.weight.copy_(torch.tensor([-1.0, 0.0, 1.0, -0.5, 0.0, 2.0, -1e-6, 1e-6]))
            stem.norm0.bias.copy_(torch.tensor([0.1, 0.5, -0.1, 0.0, -0.5, 0.3, 0.2, 0.2]))
        self.check(stem, self.steps(), learning_rate=0.0)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
    def test_nan_and_infinity_propagate(self, value: float) -> None:
        """In evaluation, where no statistics carry them everywhere."""
        stem = self.module(mode="eval")
        images = self.inputs()[0].detach()
        images[0, 1, 6, 9] = value
        with torch.no_grad():
            actual, expected = self.lean(stem, images), stem(images)
        assert (actual.isfinite() == expected.isfinite()).all()
        assert not expected.isfinite().all()
