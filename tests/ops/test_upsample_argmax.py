import pytest
import torch
import torch.nn.functional as F
from support.operator_suite import Arguments, OperatorSuite, random
from support.scales import SCALES

from ladderseg_fast import ops


class TestUpsampleArgmax(OperatorSuite):
    """Shapes are (N, K, h, w, H, W)."""

    name = "upsample_argmax"
    maps = ("scores",)
    shapes = [
        (1, 1, 1, 1, 1, 1),
        (1, 3, 1, 1, 1, 1),
        (1, 19, 1, 1, 4, 5),
        (4, 17, 2, 3, 5, 7),
        (1, 33, 5, 7, 5, 7),  # the same size
        (3, 130, 3, 2, 9, 8),
        (2, 256, 2, 2, 3, 3),
        (2, 5, 7, 9, 3, 4),  # downwards
        (1, 3, 1, 325, 1, 1300),
        (0, 3, 4, 4, 8, 8),
    ]
    small = (2, 4, 2, 3, 5, 6)
    large = (2, 19, 13, 17, 49, 65)

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        n, classes, h, w, *size = shape
        return {"scores": random(n, classes, h, w, seed=0), "size": tuple(size)}

    def check(self, arguments: Arguments) -> None:
        """The label is the reference's, but for pixels where two scores are equal up to rounding."""
        scores, size, align_corners = arguments["scores"], arguments["size"], bool(arguments.get("align_corners"))
        labels = ops.upsample_argmax(scores, size, align_corners)
        assert labels.dtype == torch.uint8
        assert labels.shape == (scores.shape[0], *size)
        expected = ops.reference.upsample_argmax(scores.double(), size, align_corners)
        upsampled = F.interpolate(scores.double(), size, mode="bilinear", align_corners=align_corners)
        best = upsampled.amax(dim=1)
        chosen = upsampled.gather(1, labels[:, None].long()).squeeze(1)
        wrong = (labels != expected) & ~(best - chosen < 1e-6)
        assert not wrong.any(), f"{int(wrong.sum())} of {wrong.numel()} labels are wrong, first at {wrong.nonzero()[0]}"

    @pytest.mark.parametrize("scale", SCALES, ids=str)
    @pytest.mark.parametrize("align_corners", [False, True])
    def test_any_scale(self, scale: tuple[int, ...], align_corners: bool, map_dtype: torch.dtype) -> None:
        self.check(self.prepared(scale, map_dtype, align_corners=align_corners))

    def test_aligned_corners_are_those_of_the_scores(self) -> None:
        scores = random(1, 7, 5, 6, seed=3)
        labels = ops.upsample_argmax(scores.float(), (9, 13), align_corners=True)
        assert torch.equal(labels[0, ::8, ::12].long(), scores[0, :, ::4, ::5].argmax(dim=0))

    def test_tie_goes_to_the_smaller_class(self) -> None:
        scores = torch.zeros(1, 5, 2, 3)
        assert (ops.upsample_argmax(scores, (7, 8)) == 0).all()
        scores[:, [2, 4]] = 1.0
        assert (ops.upsample_argmax(scores, (7, 8)) == 2).all()

    def test_every_class_can_win(self) -> None:
        scores = torch.eye(256).view(1, 256, 16, 16)
        labels = ops.upsample_argmax(scores, (16, 16))
        assert labels.flatten().tolist() == list(range(256))

    def test_has_no_gradient(self) -> None:
        scores = torch.zeros(1, 5, 2, 3, requires_grad=True)
        assert not ops.upsample_argmax(scores, (7, 8)).requires_grad

    @pytest.mark.parametrize("size", [(0, 6), (5, 0), (-1, 6), (5,), (5, 6, 7)], ids=str)
    def test_bad_size(self, size: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"\bsize\b"):
            ops.upsample_argmax(torch.zeros(2, 4, 2, 3), size)

    @pytest.mark.parametrize("classes", [0, 257])
    def test_class_count_out_of_range(self, classes: int) -> None:
        with pytest.raises(ValueError, match=r"\bscores\b"):
            ops.upsample_argmax(torch.zeros(2, classes, 2, 3), (5, 6))

    def test_scores_without_pixels(self) -> None:
        with pytest.raises(ValueError, match=r"\bscores\b"):
            ops.upsample_argmax(torch.zeros(2, 4, 0, 3), (5, 6))
