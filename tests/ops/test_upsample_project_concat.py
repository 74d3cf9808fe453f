import pytest
from support.bn_operator_suite import VECTORS, BnConvOperatorSuite
from support.operator_suite import Arguments, random


class TestUpsampleProjectConcat(BnConvOperatorSuite):
    """Shapes are (N, C, H, W, D, h, w, M)."""

    name = "upsample_project_concat"
    maps = ("coarse", "skip")
    differentiable = ("coarse", "skip", *VECTORS, "weight")
    shapes = [
        (1, 1, 1, 1, 1, 1, 1, 1),
        (1, 3, 2, 2, 17, 1, 1, 19),
        (4, 17, 1, 1, 3, 1, 1, 1),
        (1, 33, 5, 7, 130, 3, 4, 128),
        (3, 130, 4, 2, 3, 2, 1, 17),
        (2, 3, 7, 5, 33, 7, 5, 3),  # the same size
        (2, 3, 13, 11, 3, 2, 5, 19),  # odd ratios
        (2, 3, 3, 4, 17, 7, 9, 1),  # downwards
        (1, 64, 1, 1300, 3, 1, 650, 1),
        (0, 3, 4, 4, 3, 2, 2, 19),
    ]
    small = (2, 3, 3, 4, 2, 2, 3, 4)
    large = (2, 33, 37, 41, 17, 19, 21, 19)

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        n, c, h, w, coarse_channels, *coarse_size, out_channels = shape
        projection = super().arguments((n, c, h, w, out_channels))
        coarse = random(n, coarse_channels, *coarse_size, seed=7)
        return {"coarse": coarse, "skip": projection.pop("x"), **projection}

    def test_batch_sizes_differ(self) -> None:
        arguments = self.prepared(self.small, gradients=False)
        arguments["coarse"] = arguments["coarse"][:1]
        with pytest.raises(ValueError, match=r"\bcoarse\b"):
            self.operator()(**arguments)

    def test_coarse_without_pixels(self) -> None:
        arguments = self.prepared(self.small, gradients=False)
        arguments["coarse"] = arguments["coarse"][:, :, :0]
        with pytest.raises(ValueError, match=r"\bcoarse\b"):
            self.operator()(**arguments)
