import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_near
from support.operator_suite import Arguments, DifferentiableOperatorSuite, random
from support.scales import SCALES
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

    @pytest.mark.parametrize("scale", SCALES, ids=str)
    @pytest.mark.parametrize("align_corners", [False, True])
    def test_any_scale(self, scale: tuple[int, ...], align_corners: bool, map_dtype: torch.dtype) -> None:
        self.check(self.prepared(scale, map_dtype, align_corners=align_corners))

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_reduction_and_label_smoothing(
        self, reduction: str, label_smoothing: float, weighted: bool, map_dtype: torch.dtype
    ) -> None:
        options = {"reduction": reduction, "label_smoothing": label_smoothing}
        weights = {} if weighted else {"class_weights": None}
        for shape in (self.large, (1, 45, 3, 2, 9, 8)):
            self.check(self.prepared(shape, map_dtype, **options, **weights))

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
    def test_equals_torch(self, reduction: str, label_smoothing: float) -> None:
        """F.interpolate and F.cross_entropy themselves, not the reference: values and gradients to 1e-10 in float64."""
        arguments = self.prepared(self.large, torch.float64)
        logits, labels, weights = arguments["logits"], arguments["labels"], arguments["class_weights"]
        options = {"ignore_index": IGNORED, "reduction": reduction, "label_smoothing": label_smoothing}
        for align_corners in (False, True):
            upsampled = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=align_corners)
            expected = F.cross_entropy(upsampled, labels, weights, **options)
            actual = ops.upsample_cross_entropy(logits, labels, weights, align_corners=align_corners, **options)
            assert_near(actual, expected, "loss")
            grad = random(*expected.shape, seed=5)
            gradients = (torch.autograd.grad(loss, logits, grad)[0] for loss in (actual, expected))
            assert_near(*gradients, "gradient")

    def test_gradcheck_of_losses(self) -> None:
        for options in ({"reduction": "none"}, {"reduction": "none", "label_smoothing": 0.3, "align_corners": True}):
            arguments = self.prepared(self.small, torch.float64)
            logits = arguments.pop("logits")
            assert torch.autograd.gradcheck(
                lambda x, arguments=arguments | options: ops.upsample_cross_entropy(x, **arguments), logits
            )

    def test_losses_keep_only_the_inputs(self) -> None:
        """With reduction "none", backward computes the gradient from the logits: nothing else is kept, and no change
        of the labels goes unnoticed."""
        arguments = self.prepared(self.small)
        kept: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            ops.upsample_cross_entropy(**arguments, reduction="none")
        addresses = {x.data_ptr() for x in arguments.values() if isinstance(x, torch.Tensor)}
        assert kept and {x.data_ptr() for x in kept} <= addresses
        losses = ops.upsample_cross_entropy(**arguments, reduction="none")
        arguments["labels"].add_(0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            losses.sum().backward()

    def test_pixel_without_gradient_adds_nothing(self) -> None:
        """Not even NaN: pixels that a caller leaves out cost no gradient."""
        arguments = self.prepared(self.small, torch.float64, class_weights=None)
        losses = ops.upsample_cross_entropy(**arguments, reduction="none")
        clean = torch.autograd.grad(losses[0].sum(), arguments["logits"])[0]
        with torch.no_grad():
            arguments["logits"][1] = torch.nan
        losses = ops.upsample_cross_entropy(**arguments, reduction="none")
        assert losses[1].isnan().any()
        assert_near(torch.autograd.grad(losses[0].sum(), arguments["logits"])[0], clean, "gradient")

    def test_infinite_logits_with_label_smoothing(self) -> None:
        """All pixels count: what is ignored has no gradient here, while PyTorch's may be 0 * NaN."""
        for value in (torch.inf, -torch.inf, torch.nan):
            logits, labels, *_ = self.arguments(self.small).values()
            logits[1, 0, 1, 1] = value
            labels = labels.where(labels != IGNORED, 2)
            for reduction in ("mean", "none"):
                options = {"label_smoothing": 0.1, "reduction": reduction}
                self.check(self.prepared(self.small, logits=logits, labels=labels, **options))

    @pytest.mark.parametrize("reduction", ["average", "", None, 1], ids=str)
    def test_bad_reduction(self, reduction: object) -> None:
        for implementation in (ops, ops.reference):
            with pytest.raises(ValueError, match=r'reduction must be "mean", "sum" or "none"'):
                implementation.upsample_cross_entropy(
                    torch.zeros(2, 4, 2, 3), torch.zeros(2, 5, 6, dtype=torch.int64), reduction=reduction
                )

    @pytest.mark.parametrize("label_smoothing", [-0.1, 1.5, torch.nan])
    def test_bad_label_smoothing(self, label_smoothing: float) -> None:
        for implementation in (ops, ops.reference):
            with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\]"):
                implementation.upsample_cross_entropy(
                    torch.zeros(2, 4, 2, 3), torch.zeros(2, 5, 6, dtype=torch.int64), label_smoothing=label_smoothing
                )

    @pytest.mark.parametrize("label_smoothing", [None, "0.1", 1j])
    def test_label_smoothing_is_no_number(self, label_smoothing: object) -> None:
        logits, labels = torch.zeros(2, 4, 2, 3), torch.zeros(2, 5, 6, dtype=torch.int64)
        for implementation in (ops, ops.reference):
            with pytest.raises(TypeError, match=r"label_smoothing must be in \[0, 1\], got"):
                implementation.upsample_cross_entropy(logits, labels, label_smoothing=label_smoothing)

    @pytest.mark.parametrize("label", [4, -1, 2**40])
    def test_label_out_of_range_of_losses(self, label: int) -> None:
        arguments = self.prepared(self.small)
        arguments["labels"][1, 3, 2] = label
        for options in ({"reduction": "none"}, {"align_corners": True}, {"label_smoothing": 0.1}):
            with pytest.raises(ValueError, match=rf"\blabels\b.*{label}\b.*image 1, row 3, column 2"):
                ops.upsample_cross_entropy(**arguments, **options)

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

    def test_class_weights_have_no_gradient(self) -> None:
        """Refused, as in F.cross_entropy, unless nothing is differentiated."""
        arguments = self.prepared(self.small)
        logits, labels = arguments["logits"], arguments["labels"]
        weights = torch.ones(4, dtype=arguments["class_weights"].dtype, device=logits.device, requires_grad=True)
        for name in ("upsample_cross_entropy", "upsample_ohem_cross_entropy", "upsample_cross_entropy_dice_loss"):
            for implementation in (ops, ops.reference):
                function = getattr(implementation, name)
                with pytest.raises(RuntimeError, match=r"weight"):
                    function(logits, labels, weights)
                with torch.no_grad():
                    assert function(logits, labels, weights) == function(logits, labels, weights.detach())

    def test_no_tensors(self) -> None:
        """Such as the dictionary that a network of torchvision gives."""
        logits, labels = torch.zeros(2, 4, 2, 3), torch.zeros(2, 5, 6, dtype=torch.int64)
        names = "cross_entropy", "ohem_cross_entropy", "dice_loss", "cross_entropy_dice_loss"
        for function in (getattr(ops, f"upsample_{name}") for name in names):
            with pytest.raises(TypeError, match=r"^logits must be a tensor, got dict"):
                function({"out": logits}, labels)
            with pytest.raises(TypeError, match=r"^labels must be a tensor, got list"):
                function(logits, labels.tolist())

    def test_large_scores_do_not_overflow(self) -> None:
        logits = 1000.0 * self.arguments(self.large)["logits"]
        self.check(self.prepared(self.large, logits=logits))

    def test_large_scores_with_label_smoothing(self) -> None:
        """Only differences of scores count: what all have in common costs no digits. No upsampling rounds them here."""
        for shape in ((2, 19, 5, 7, 5, 7), (1, 64, 5, 7, 5, 7)):
            logits = 10000.0 + self.arguments(shape)["logits"].float()
            for reduction in ("mean", "none"):
                self.check(self.prepared(shape, logits=logits, label_smoothing=0.2, reduction=reduction))

    @pytest.mark.parametrize("label", [4, 254, 256, -1, -100, 2**40])
    def test_label_out_of_range(self, label: int) -> None:
        arguments = self.prepared(self.small)
        arguments["labels"][1, 3, 2] = label
        with pytest.raises(ValueError, match=rf"\blabels\b.*{label}\b"):
            ops.upsample_cross_entropy(**arguments)

    def test_label_beyond_int64(self) -> None:
        arguments = self.prepared(self.small)
        arguments["labels"] = torch.full_like(arguments["labels"], -5).to(torch.uint64)
        with pytest.raises(ValueError, match=rf"\blabels\b.*got {2**64 - 5} at image"):
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
