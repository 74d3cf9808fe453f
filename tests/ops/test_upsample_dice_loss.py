"""The soft Dice loss, alone and with the cross entropy."""

import pytest
import torch
import torch.nn.functional as F
from support import torchvision_networks
from support.comparison import assert_as_accurate, assert_near
from support.operator_suite import evaluate, random
from torch import Tensor

from ladderseg_fast import ops
from ladderseg_fast.ops.upsample_pixel_losses import softmax_sums

IGNORED = 255


def logits_and_labels(n: int, classes: int, h: int, w: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Scores of float64, and labels of which about a fifth are ignored and the last class is absent."""
    numbers = random(n, height, width, seed=1, low=-0.25, high=1.0)
    labels = torch.where(numbers < 0, IGNORED, (numbers * (classes - 1)).floor().clamp(max=max(classes - 2, 0))).long()
    return random(n, classes, h, w, seed=0, low=-3.0, high=3.0), labels


SHAPES = [(2, 5, 4, 6, 13, 17), (1, 45, 3, 2, 9, 8), (2, 19, 13, 17, 49, 65), (2, 4, 9, 11, 4, 5), (1, 2, 1, 1, 3, 2)]
OPTIONS = [
    {},
    {"smooth": 1.0, "per_image": True},
    {"align_corners": True, "eps": 1e-3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_equals_reference(sizes: tuple[int, ...], options: dict, map_dtype: torch.dtype) -> None:
    logits, labels = logits_and_labels(*sizes)
    weights = random(sizes[1], seed=2, low=0.5, high=2.0).float()
    x = logits.to(map_dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    both = {"class_weights": weights, "label_smoothing": 0.1, "cross_entropy_weight": 0.7, "dice_weight": 1.5}
    for name, extra in (("upsample_dice_loss", {}), ("upsample_cross_entropy_dice_loss", both)):
        arguments = {"labels": labels, **options, **extra}
        actual = evaluate(getattr(ops, name), {"logits": x, **arguments})
        plain = evaluate(getattr(ops.reference, name), {"logits": x, **arguments})
        expected = evaluate(getattr(ops.reference, name), {"logits": exact, **arguments})
        for key, value in expected.items():
            assert_as_accurate(actual[key], plain[key], value, key)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_equals_segmentation_models_pytorch(smooth: float) -> None:
    torchvision_networks.timm()  # it imports this
    smp = pytest.importorskip("segmentation_models_pytorch", reason="compares with its DiceLoss (the extra [convert])")
    for shape in SHAPES[:4]:
        logits, labels = logits_and_labels(*shape)
        logits.requires_grad_()
        loss = smp.losses.DiceLoss("multiclass", from_logits=True, smooth=smooth, ignore_index=IGNORED)
        expected = loss(F.interpolate(logits, labels.shape[1:], mode="bilinear"), labels)
        actual = ops.upsample_dice_loss(logits, labels, IGNORED, smooth)
        # It takes the exponential of log_softmax.
        assert_near(actual, expected, "loss")
        assert_near(*(torch.autograd.grad(each, logits)[0] for each in (actual, expected)), "gradient")


def test_gradcheck() -> None:
    logits, labels = logits_and_labels(2, 4, 2, 3, 5, 6)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.upsample_dice_loss(x, labels, per_image=True), logits)
    assert torch.autograd.gradcheck(
        lambda x: ops.upsample_cross_entropy_dice_loss(x, labels, label_smoothing=0.2, align_corners=True), logits
    )
    assert torch.autograd.gradcheck(lambda x: softmax_sums(x, labels, None, IGNORED, 0.1)[1][:, :2], logits)


def test_is_the_sum_of_both() -> None:
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    expected = 0.3 * ops.upsample_cross_entropy(logits, labels) + 2.0 * ops.upsample_dice_loss(logits, labels)
    actual = ops.upsample_cross_entropy_dice_loss(logits, labels, cross_entropy_weight=0.3, dice_weight=2.0)
    assert_near(actual, expected, "sum")


def test_perfect_and_wrong_predictions() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [2, 2, 1, 1]]])
    scores = 100.0 * F.one_hot(labels, 4).movedim(3, 1).double()
    assert_near(ops.upsample_dice_loss(scores, labels) + 1.0, torch.ones((), dtype=torch.float64), "perfect")
    wrong = scores.roll(1, dims=1)
    assert_near(ops.upsample_dice_loss(wrong, labels), torch.tensor(0.75, dtype=torch.float64), "three of four classes")


@pytest.mark.parametrize("per_image", [False, True])
def test_nothing_counts(per_image: bool) -> None:
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    logits.requires_grad_()
    for implementation in (ops, ops.reference):
        for name in ("upsample_dice_loss", "upsample_cross_entropy_dice_loss"):
            loss = getattr(implementation, name)(logits, torch.full_like(labels, IGNORED), per_image=per_image)
            assert loss == 0.0
            assert not torch.autograd.grad(loss, logits)[0].any()


@pytest.mark.parametrize("per_image", [False, True])
def test_no_image(per_image: bool) -> None:
    loss = ops.upsample_dice_loss(torch.zeros(0, 3, 4, 4), torch.zeros(0, 8, 8, dtype=torch.int64), per_image=per_image)
    assert loss == 0.0


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
def test_nan_shows(value: float) -> None:
    logits, labels = logits_and_labels(2, 5, 4, 6, 13, 17)
    logits[1, 2, 1, 1] = value
    for name in ("upsample_dice_loss", "upsample_cross_entropy_dice_loss"):
        assert getattr(ops, name)(logits, labels).isnan()
        assert getattr(ops.reference, name)(logits, labels).isnan()


def test_same_bits_every_time() -> None:
    logits, labels = logits_and_labels(2, 19, 13, 17, 49, 65)
    logits = logits.float().requires_grad_()
    results = [
        (loss, torch.autograd.grad(loss, logits)[0])
        for loss in (ops.upsample_cross_entropy_dice_loss(logits, labels) for _ in range(2))
    ]
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"smooth": -1.0}, "smooth"),
        ({"smooth": torch.nan}, "smooth"),
        ({"smooth": torch.inf}, "smooth"),
        ({"eps": 0.0}, "eps"),
        ({"eps": torch.inf}, "eps"),
        ({"eps": -1.0}, "eps"),
        ({"eps": 10**400}, "eps"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict, name: str) -> None:
    logits, labels = torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 4, dtype=torch.int64)
    for implementation in (ops, ops.reference):
        for function in (implementation.upsample_dice_loss, implementation.upsample_cross_entropy_dice_loss):
            with pytest.raises(ValueError, match=rf"\b{name}\b"):
                function(logits, labels, **options)


def test_label_out_of_range() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 2, 1] = 7
    for function in (ops.upsample_dice_loss, ops.upsample_cross_entropy_dice_loss):
        with pytest.raises(ValueError, match=r"labels .*got 7 at image 0, row 2, column 1"):
            function(torch.zeros(1, 3, 2, 2), labels)


def test_double_backward_is_refused() -> None:
    logits, labels = logits_and_labels(2, 4, 2, 3, 5, 6)
    logits.requires_grad_()
    for loss in (
        ops.upsample_dice_loss(logits, labels),
        ops.upsample_cross_entropy(logits, labels, reduction="none").sum(),
    ):
        (gradient,) = torch.autograd.grad(loss.square(), logits, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiated once"):
            torch.autograd.grad(gradient.square().sum(), logits)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["upsample_pixel_losses", "upsample_softmax_sums"])
def test_opcheck(name: str) -> None:
    logits, labels = logits_and_labels(2, 4, 2, 3, 5, 6)
    overload = getattr(torch.ops.ladderseg_fast, name).default
    for weights in (None, torch.rand(4)):
        torch.library.opcheck(overload, (logits.float().requires_grad_(), labels, weights, IGNORED, 0.1, True))


@pytest.mark.real_use
@pytest.mark.parametrize("name", ["smooth", "eps"])
def test_constants_that_are_no_numbers(name: str) -> None:
    logits, labels = torch.zeros(1, 2, 2, 2), torch.zeros(1, 4, 4, dtype=torch.int64)
    for implementation in (ops, ops.reference):
        for value in (None, "1", 1j):
            with pytest.raises(TypeError, match=rf"{name} must be finite and .*, got {value!r}"):
                implementation.upsample_dice_loss(logits, labels, **{name: value})
