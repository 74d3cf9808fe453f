import pytest
import torch
from support.comparison import assert_near
from support.operator_suite import Arguments, DifferentiableOperatorSuite, random
from torch import Tensor

from ladderseg_fast import ops

IGNORED = 255


def random_labels(*shape: int, classes: int) -> Tensor:
    """int64 labels, about a quarter of them ignored but never the first."""
    numbers = random(*shape, seed=1, low=-0.25, high=1.0)
    labels = torch.where(numbers < 0, IGNORED, (numbers * classes).floor().clamp(max=classes - 1)).long()
    labels.view(-1)[:1] = 0
    return labels


class TestUpsampleCrossEntropy(DifferentiableOperatorSuite):
    """Shapes are (N, K, h, w, H, W)."""

    name = "upsample_cross_entropy"
    maps = ("logits",)
    optional = ("class_weights",)
    converted = ("class_weights",)
    differentiable = ("logits",)
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
        n, classes, h, w, height, width = shape
        return {
            "logits": random(n, classes, h, w, seed=0, low=-3.0, high=3.0),
            "labels": random_labels(n, height, width, classes=classes),
            "class_weights": random(classes, seed=2, low=0.5, high=2.0),
            "ignore_index": IGNORED,
        }

    def test_defaults(self) -> None:
        """No weights; 255 is ignored."""
        arguments = self.prepared(self.large)
        logits, labels = arguments["logits"], arguments["labels"]
        expected = ops.reference.upsample_cross_entropy(logits, labels, None, 255)
        assert_near(ops.upsample_cross_entropy(logits, labels), expected, "loss", tolerance=1e-6)

    @pytest.mark.parametrize(
        "dtype",
        [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int16, torch.int32, torch.int64],
        ids=str,
    )
    def test_label_dtype(self, dtype: torch.dtype) -> None:
        labels = self.arguments(self.large)["labels"].to(dtype)
        self.check(self.prepared(self.large, labels=labels))

    def test_label_layout(self) -> None:
        labels = self.arguments(self.large)["labels"]
        wide = torch.full((*labels.shape[:2], 2 * labels.shape[2]), 7777)
        wide[..., ::2] = labels
        for view in (wide[..., ::2], labels.transpose(1, 2).contiguous().transpose(1, 2), labels[:1].expand_as(labels)):
            self.check(self.prepared(self.large, labels=view))

    @pytest.mark.parametrize("ignore_index", [0, 3, 18, 254, -100, -1])
    def test_ignore_index(self, ignore_index: int) -> None:
        """Any integer: a class, or a number that is none."""
        labels = self.arguments(self.large)["labels"]
        labels[labels == IGNORED] = ignore_index
        self.check(self.prepared(self.large, labels=labels, ignore_index=ignore_index))

    def test_weight_zero(self) -> None:
        """A class of weight 0 counts for nothing, but its score is still pushed down at the other pixels."""
        weights = self.arguments(self.large)["class_weights"]
        weights[::3] = 0.0
        self.check(self.prepared(self.large, class_weights=weights))

    @pytest.mark.real_use
    @pytest.mark.parametrize("size", [small, large, (3, 130, 3, 2, 9, 8), (0, 3, 4, 4, 8, 8)], ids=str)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_nothing_counts(self, size: tuple[int, ...], weighted: bool) -> None:
        """Everything is ignored, or of classes that weigh nothing: the loss and its gradient are 0."""
        arguments = self.prepared(size)
        logits, classes = arguments["logits"].requires_grad_(), size[1]
        labels = torch.full_like(arguments["labels"], 1 if weighted else IGNORED)
        weights = torch.ones(classes, dtype=arguments["class_weights"].dtype, device=logits.device)
        weights[1] = 0.0
        for implementation in (ops, ops.reference):
            for given in [weights] if weighted else [None, weights]:
                loss = implementation.upsample_cross_entropy(logits, labels, given)
                assert loss == 0.0
                (gradient,) = torch.autograd.grad(loss, logits)
                assert not gradient.any()

    @pytest.mark.real_use
    def test_one_pixel_counts_and_weighs_nothing(self) -> None:
        labels = self.arguments(self.small)["labels"].fill_(IGNORED)
        labels[1, 3, 2] = 1
        weights = torch.tensor([1.0, 0.0, 1.0, 1.0]).double()
        self.check(self.prepared(self.small, labels=labels, class_weights=weights))
        self.check(self.prepared(self.small, labels=labels, class_weights=weights.flip(0)))

    @pytest.mark.real_use
    @pytest.mark.parametrize("of_weights", [torch.int64, torch.uint8, torch.float16, torch.float64], ids=str)
    def test_class_weights_of_any_real_dtype(self, of_weights: torch.dtype) -> None:
        arguments = self.prepared(self.small)
        logits, labels = arguments["logits"], arguments["labels"]
        weights = torch.tensor([1, 0, 3, 2], device=logits.device)
        for implementation in (ops, ops.reference):
            operator = implementation.upsample_cross_entropy
            expected = operator(logits, labels, weights.to(arguments["class_weights"].dtype))
            assert torch.equal(operator(logits, labels, weights.to(of_weights)), expected)

    @pytest.mark.real_use
    @pytest.mark.parametrize("weights", [[1.0] * 4, torch.ones(4, dtype=torch.complex64)], ids=["list", "complex"])
    def test_class_weights_that_are_no_real_tensor(self, weights: object) -> None:
        for implementation in (ops, ops.reference):
            with pytest.raises(TypeError, match=r"class_weights must be (a tensor, .*torch\.tensor|of a floating or)"):
                implementation.upsample_cross_entropy(
                    torch.zeros(2, 4, 2, 3), torch.zeros(2, 5, 6, dtype=torch.int64), weights
                )

    def test_large_scores_do_not_overflow(self) -> None:
        logits = 1000.0 * self.arguments(self.large)["logits"]
        self.check(self.prepared(self.large, logits=logits))

    @pytest.mark.parametrize("label", [4, 254, 256, -1, -100, 2**40])
    def test_label_out_of_range(self, label: int) -> None:
        arguments = self.prepared(self.small)
        arguments["labels"][1, 3, 2] = label
        with pytest.raises(ValueError, match=rf"\blabels\b.*{label}\b"):
            ops.upsample_cross_entropy(**arguments)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool, torch.complex64], ids=str)
    def test_labels_are_no_integers(self, dtype: torch.dtype) -> None:
        labels = torch.zeros(2, 5, 6, dtype=dtype)
        for implementation in (ops, ops.reference):
            with pytest.raises(TypeError, match=rf"labels must be .*, got {dtype}; labels\.long\(\)"):
                implementation.upsample_cross_entropy(torch.zeros(2, 4, 2, 3), labels)

    @pytest.mark.parametrize("label_shape", [(1, 5, 6), (2, 1, 5, 6), (5, 6), (2, 0, 6)], ids=str)
    def test_label_shape(self, label_shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"\blabels\b"):
            ops.upsample_cross_entropy(torch.zeros(2, 4, 2, 3), torch.zeros(label_shape, dtype=torch.int64))

    @pytest.mark.parametrize("weights_shape", [(3,), (5,), (4, 1), ()], ids=str)
    def test_class_weights_shape(self, weights_shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"\bclass_weights\b"):
            ops.upsample_cross_entropy(
                torch.zeros(2, 4, 2, 3), torch.zeros(2, 5, 6, dtype=torch.int64), torch.ones(weights_shape)
            )
