"""The loss of the hardest pixels: which are kept, its values and gradients."""

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_as_accurate, assert_near
from support.operator_suite import evaluate, random
from torch import Tensor

from ladderseg_fast import ops
from ladderseg_fast.ops.upsample_ohem_cross_entropy import by_bits, by_digits, kth_largest

IGNORED = 255


def logits_and_labels(n: int, classes: int, h: int, w: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Scores of float64, and labels of which about a fifth are ignored."""
    numbers = random(n, height, width, seed=1, low=-0.25, high=1.0)
    labels = torch.where(numbers < 0, IGNORED, (numbers * classes).floor().clamp(max=classes - 1)).long()
    return random(n, classes, h, w, seed=0, low=-3.0, high=3.0), labels


SELECTIONS = [(None, 0.3), (None, 7), (None, 1.0), (0.3, 0), (0.3, 0.5), (0.05, 3), (0.7, 100_000), (1.0, 0)]
SHAPES = [(2, 5, 4, 6, 13, 17), (1, 45, 3, 2, 9, 8)]


@pytest.mark.parametrize(("threshold", "min_kept"), SELECTIONS, ids=str)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_equals_reference(
    sizes: tuple[int, ...], threshold: float | None, min_kept: float, map_dtype: torch.dtype
) -> None:
    logits, labels = logits_and_labels(*sizes)
    weights = random(sizes[1], seed=2, low=0.5, high=2.0)
    options = {"threshold": threshold, "min_kept": min_kept, "align_corners": True}
    for extra in ({}, {"class_weights": weights.float(), "label_smoothing": 0.1}):
        arguments = {"labels": labels, **options, **extra}
        x = logits.to(map_dtype).requires_grad_()
        function, reference = ops.upsample_ohem_cross_entropy, ops.reference.upsample_ohem_cross_entropy
        actual = evaluate(function, {"logits": x, **arguments})
        # The reference in float64, of the same numbers: in another precision other pixels may be the hardest.
        exact = evaluate(reference, {"logits": x.detach().double().requires_grad_(), **arguments})
        for key, value in exact.items():
            assert_as_accurate(actual[key], value.to(map_dtype), value, key)


def test_top_k_is_the_mean_of_the_largest_losses() -> None:
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    upsampled = F.interpolate(logits, labels.shape[1:], mode="bilinear")
    losses = F.cross_entropy(upsampled, labels, ignore_index=IGNORED, reduction="none")[labels != IGNORED]
    for k in (1, 10, 100):
        actual = ops.upsample_ohem_cross_entropy(logits, labels, threshold=None, min_kept=k)
        assert_near(actual, losses.topk(k).values.mean(), f"top {k}")
    share = ops.upsample_ohem_cross_entropy(logits, labels, threshold=None, min_kept=0.25)
    assert_near(share, losses.topk(round(0.25 * len(losses))).values.mean(), "top quarter")
    everything = ops.upsample_cross_entropy(logits, labels)
    assert_near(ops.upsample_ohem_cross_entropy(logits, labels, threshold=None, min_kept=1.0), everything, "all")


def test_threshold_is_on_the_probability_of_the_true_class() -> None:
    logits, labels = logits_and_labels(1, 3, 4, 6, 13, 17)
    upsampled = F.interpolate(logits, labels.shape[1:], mode="bilinear")
    counted = labels != IGNORED
    probability = upsampled.softmax(dim=1).gather(1, labels.where(counted, 0)[:, None])[:, 0]
    kept = counted & (probability <= 0.4)
    assert 10 < kept.sum() < counted.sum() - 10
    expected = F.cross_entropy(upsampled, labels, ignore_index=IGNORED, reduction="none")[kept].mean()
    assert_near(ops.upsample_ohem_cross_entropy(logits, labels, threshold=0.4, min_kept=0), expected, "threshold")


def test_ties_are_all_kept() -> None:
    """Two halves, each of equal pixels: one pixel that must be kept brings its half."""
    logits = torch.zeros(1, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        logits[0, 1, 0, 0] = 2.0
    labels = torch.zeros(1, 4, 2, dtype=torch.int64)
    loss = ops.upsample_ohem_cross_entropy(logits, labels, threshold=None, min_kept=1)
    assert_near(loss, torch.tensor(math.log1p(math.exp(2.0)), dtype=torch.float64), "the harder half")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[..., 0].all() and not gradient[..., 1].any()


def test_nothing_counts() -> None:
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    logits.requires_grad_()
    for implementation in (ops, ops.reference):
        for options in ({"threshold": None, "min_kept": 5}, {"threshold": 1e-6, "min_kept": 0}):
            ignored = torch.full_like(labels, IGNORED) if options["threshold"] is None else labels
            loss = implementation.upsample_ohem_cross_entropy(logits, ignored, **options)
            assert loss == 0.0
            assert not torch.autograd.grad(loss, logits)[0].any()


def test_no_image() -> None:
    empty = torch.zeros(0, 3, 4, 4, requires_grad=True)
    loss = ops.upsample_ohem_cross_entropy(empty, torch.zeros(0, 8, 8, dtype=torch.int64))
    assert loss == 0.0


def test_nan_shows() -> None:
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    logits[1, 2, 1, 1] = torch.nan
    for implementation in (ops, ops.reference):
        assert implementation.upsample_ohem_cross_entropy(logits, labels, threshold=None, min_kept=0.5).isnan()
        assert implementation.upsample_ohem_cross_entropy(logits, labels, threshold=0.1, min_kept=0).isnan()


def test_same_bits_every_time() -> None:
    logits, labels = logits_and_labels(2, 19, 13, 17, 49, 65)
    logits = logits.float().requires_grad_()

    def result() -> tuple[Tensor, Tensor]:
        loss = ops.upsample_ohem_cross_entropy(logits, labels, min_kept=0.2)
        return loss, torch.autograd.grad(loss, logits)[0]

    first, second = result(), result()
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


@pytest.mark.parametrize("find", [by_bits, by_digits])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kth_largest(dtype: torch.dtype, find: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[by_bits.__module__]  # the package has a function of the same name
    monkeypatch.setattr(module, "by_digits", find)  # what a CPU takes
    monkeypatch.setattr(module, "_PART", 50)
    values = random(11, 13, seed=4, low=0.0, high=50.0).to(dtype)
    values.view(-1)[:6] = torch.tensor([0.0, torch.inf, 1e-40, 3.5, 3.5, 3.5], dtype=dtype)
    ordered = values.flatten().sort(descending=True).values
    for k in (1, 2, len(ordered) // 2, len(ordered)):
        assert kth_largest(values, torch.tensor(k)) == ordered[k - 1]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": torch.nan}, "threshold"),
        ({"min_kept": -1}, "min_kept"),
        ({"min_kept": 1.5}, "min_kept"),
        ({"min_kept": torch.nan}, "min_kept"),
        ({"threshold": None, "min_kept": 0}, "min_kept"),
        ({"threshold": None, "min_kept": 0.0}, "min_kept"),
        ({"label_smoothing": 2.0}, "label_smoothing"),
        ({"class_weights": torch.ones(4)}, "class_weights"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict, name: str) -> None:
    logits, labels = torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        ops.upsample_ohem_cross_entropy(logits, labels, **options)


@pytest.mark.parametrize("number", [np.int64(5), np.float32(0.25), np.float64(0.25), torch.tensor(5)], ids=repr)
def test_number_of_another_library(number: object) -> None:
    """Integers are numbers of pixels, and all others shares: none is cut down to an integer."""
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    expected = ops.upsample_ohem_cross_entropy(logits, labels, threshold=0.01, min_kept=number.item())
    for implementation in (ops, ops.reference):
        loss = implementation.upsample_ohem_cross_entropy(logits, labels, threshold=0.01, min_kept=number)
        assert_near(loss, expected, "loss")


@pytest.mark.parametrize("min_kept", [None, "all", torch.tensor(0.25), torch.ones(2)], ids=repr)
def test_min_kept_is_no_number(min_kept: object) -> None:
    logits, labels = torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 4, dtype=torch.int64)
    for implementation in (ops, ops.reference):
        with pytest.raises(TypeError, match="min_kept must be an int or a float"):
            implementation.upsample_ohem_cross_entropy(logits, labels, min_kept=min_kept)


def test_label_out_of_range() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 2, 1] = 7
    with pytest.raises(ValueError, match=r"labels .*got 7 at image 0, row 2, column 1"):
        ops.upsample_ohem_cross_entropy(torch.zeros(1, 3, 2, 2), labels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("selection", [(None, 7, 0.0), (0.3, 0, 0.25), (0.3, 0, 0.0)], ids=str)
def test_opcheck(selection: tuple) -> None:
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    overload = torch.ops.ladderseg_fast.upsample_hardest_pixels.default
    torch.library.opcheck(overload, (logits.float(), labels, IGNORED, *selection, True))


@pytest.mark.real_use
@pytest.mark.parametrize(
    "dtype, ignored", [(torch.int32, -(1 << 63)), (torch.uint8, 256), (torch.uint8, -256)], ids=str
)
def test_no_label_can_be_the_ignored_one(dtype: torch.dtype, ignored: int) -> None:
    """Torch cuts a number to the dtype that it compares with it: these all to label 0."""
    logits, labels = random(1, 4, 3, 5, seed=1).float(), torch.arange(60).view(1, 6, 10).remainder(4)
    expected = ops.upsample_cross_entropy(logits, labels)
    for min_kept in (60, 1.0):
        loss = ops.upsample_ohem_cross_entropy(logits, labels.to(dtype), None, ignored, None, min_kept)
        assert_near(loss, expected, f"min_kept {min_kept}", tolerance=1e-6)


@pytest.mark.real_use
def test_more_pixels_than_there_are_numbers() -> None:
    logits, labels = random(1, 4, 3, 5, seed=1), torch.zeros(1, 6, 10, dtype=torch.int64)
    expected = ops.upsample_cross_entropy(logits, labels)
    for implementation in (ops, ops.reference):
        loss = implementation.upsample_ohem_cross_entropy(logits, labels, threshold=None, min_kept=1 << 64)
        assert_near(loss, expected, "all are kept")
