"""Labels at full size from logits at a quarter of it, of one view and of several."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate
from torch.utils._python_dispatch import TorchDispatchMode

from ladderseg_fast import LadderOutput
from ladderseg_fast.data import IMAGENET_NORMALISATION, resize_image
from ladderseg_fast.engine.evaluation import Views, averaging, label_image
from ladderseg_fast.engine.evaluation.averaging import argmax_of_mean, mean_probabilities


class Strided(nn.Module):
    """A network as small as can be: one convolution of stride 4, and a record of the sizes it saw."""

    min_size = 16

    def __init__(self, classes=5):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, classes, 3, stride=4, padding=1)
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape[2:]))
        return LadderOutput(3 * self.conv(self.norm(images)), None)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)


def by_definition(model, image, size, flip):
    """Softmax at full size of one view, all of it at once."""
    pixels = IMAGENET_NORMALISATION(resize_image(image, size))[None]
    with torch.no_grad():
        logits = model(pixels.flip(3)).logits.flip(3) if flip else model(pixels).logits
    return interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False).softmax(1)[0]


def test_single_view_is_upsampled_straight_to_the_images_size(image):
    model = Strided().eval()
    labels = label_image(model, image, IMAGENET_NORMALISATION, Views((24, 40)))
    assert (labels.dtype, labels.shape) == (torch.uint8, (37, 51))
    expected = by_definition(model, image, (24, 40), flip=False)
    # a tie within rounding may go either way
    margin = expected.topk(2, 0).values.diff(dim=0)[0].abs()
    assert (labels == expected.argmax(0))[margin > 1e-5].all()
    assert len(labels.unique()) > 2


@pytest.mark.parametrize("strip_values", [5 * 60, 5 * 51 * 9, 2**21])
def test_views_are_averaged(image, monkeypatch, strip_values):
    monkeypatch.setattr(averaging, "STRIP_VALUES", strip_values)
    model = Strided().eval()
    views = Views((24, 40), scales=(0.75, 1.0, 1.6), flip=True)
    labels = label_image(model, image, IMAGENET_NORMALISATION, views)
    sizes = [(18, 30), (24, 40), (38, 64)]
    assert model.seen == [size for size in sizes for _ in range(2)]
    expected = sum(by_definition(model, image, size, flip) for size in sizes for flip in (False, True))
    margin = expected.topk(2, 0).values.diff(dim=0)[0].abs()
    assert (labels == expected.argmax(0))[margin > 1e-5].all()
    assert (margin > 1e-5).float().mean() > 0.99


def test_probabilities_are_averaged_and_not_logits():
    # 0.98 + 2 * 0.18 < 0.02 + 2 * 0.82, but 4 > 2 * 1.5
    first, second = torch.tensor([4.0, 0.0]), torch.tensor([0.0, 1.5])
    scores = [s.view(1, 2, 1, 1).expand(1, 2, 2, 2) for s in (first, second, second)]
    assert (sum(scores).argmax(1) == 0).all()
    assert (argmax_of_mean(scores, (3, 3)) == 1).all()


def test_several_images_of_a_batch(monkeypatch):
    monkeypatch.setattr(averaging, "STRIP_VALUES", 200)
    scores = [torch.randn(3, 4, 5, 7), torch.randn(3, 4, 2, 3)]
    expected = sum(interpolate(s, (11, 9), mode="bilinear", align_corners=False).softmax(1) for s in scores)
    assert torch.equal(argmax_of_mean(scores, (11, 9)).long(), expected.argmax(1))


def test_training_mode_comes_back_and_statistics_stay(image):
    model = Strided().train()
    label_image(model, image, IMAGENET_NORMALISATION, Views(None, flip=True))
    assert model.training
    assert model.norm.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (Views(None), [(100, 200)]),
        (Views((64, 96), scales=(0.5, 2.0)), [(48, 48), (128, 192)]),
        (Views((50, 70), scales=(1.25,)), [(62, 88)]),
    ],
)
def test_sizes(views, expected):
    assert views.sizes((100, 200), least=48) == expected


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (float("inf"),), (float("nan"),)])
def test_rejects(scales):
    with pytest.raises(ValueError, match="scale"):
        Views(None, scales)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that a result had while active."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_scores_of_all_classes_never_exist_at_full_size(monkeypatch):
    monkeypatch.setattr(averaging, "STRIP_VALUES", 40_000)
    scores = [torch.randn(1, 10, 32, 32), torch.randn(1, 10, 24, 24)]
    with LargestTensor() as largest:
        argmax_of_mean(scores, (128, 128))
    assert 30_000 <= largest.elements <= 40_000 < 10 * 128 * 128


def test_mean_probabilities_of_several_maps_in_strips(monkeypatch):
    monkeypatch.setattr(averaging, "STRIP_VALUES", 3 * 40 * 7)
    scores = [torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(h)) for h, w in ((5, 10), (9, 13))]
    expected = sum(interpolate(score, (21, 40), mode="bilinear").softmax(1) for score in scores) / 2
    mean = mean_probabilities(scores, (21, 40))
    assert mean.dtype == torch.float16
    assert (mean - expected).abs().max() < 1e-3
