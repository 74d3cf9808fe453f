"""LadderLoss: the paper's loss, lean and plain."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_near
from support.ladder_models import CLASSES, make_images, make_labels, make_model
from torch import Tensor, nn

from ladderseg_fast import LadderLoss, LadderOutput


def make_output(dtype: torch.dtype = torch.float64) -> LadderOutput:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, 17, 25, generator=generator).to(dtype).requires_grad_()
    aux = torch.randn(2, CLASSES, 1, 2, generator=generator).to(dtype).requires_grad_()
    return LadderOutput(logits, aux)


def formula(output: LadderOutput, labels: Tensor, weights: Tensor | None = None, aux_weight: float = 0.3) -> Tensor:
    """0.7 * main + 0.3 * auxiliary, spelled out."""
    main, auxiliary = (
        F.cross_entropy(
            F.interpolate(scores, labels.shape[1:], mode="bilinear", align_corners=False),
            labels.long(),
            weight=weights,
            ignore_index=255,
        )
        for scores in output
    )
    return (1.0 - aux_weight) * main + aux_weight * auxiliary


def check(loss: LadderLoss, labels: Tensor, **formula_arguments: object) -> None:
    actual_output, expected_output = make_output(), make_output()
    actual = loss(actual_output, labels)
    expected = formula(expected_output, labels, **formula_arguments)
    assert actual.shape == ()
    assert_near(actual, expected, "loss")
    actual.backward()
    expected.backward()
    assert_near(actual_output.logits.grad, expected_output.logits.grad, "gradient of logits")
    assert_near(actual_output.aux.grad, expected_output.aux.grad, "gradient of aux")


@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64], ids=str)
def test_formula(memory: str, dtype: torch.dtype) -> None:
    check(LadderLoss(memory=memory), make_labels(2, 65, 97).to(dtype))


@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize("aux_weight", [0.0, 0.5, 1.0])
def test_aux_weight(memory: str, aux_weight: float) -> None:
    check(LadderLoss(aux_weight=aux_weight, memory=memory), make_labels(2, 65, 97), aux_weight=aux_weight)


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_class_weights(memory: str) -> None:
    weights = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0]).double()
    check(LadderLoss(class_weights=weights, memory=memory), make_labels(2, 65, 97), weights=weights)


@pytest.mark.real_use
@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize(("label", "weights"), [(255, None), (3, [1, 1, 1, 0, 1])])
def test_nothing_counts(memory: str, label: int, weights: list[int] | None) -> None:
    """The loss of nothing is 0, and teaches nothing."""
    output, labels = make_output(), torch.full((2, 65, 97), label)
    loss = LadderLoss(class_weights=weights, memory=memory)(output, labels)
    assert loss == 0.0
    loss.backward()
    assert not output.logits.grad.any() and not output.aux.grad.any()


@pytest.mark.real_use
@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize("weights", [[1, 2, 3, 0, 1], torch.tensor([1, 2, 3, 0, 1]), torch.tensor([1.0, 2, 3, 0, 1])])
def test_class_weights_of_other_types(memory: str, weights: object) -> None:
    expected = torch.tensor([1, 2, 3, 0, 1]).double()
    check(LadderLoss(class_weights=weights, memory=memory), make_labels(2, 65, 97), weights=expected)


@pytest.mark.real_use
@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool], ids=str)
def test_labels_that_are_no_integers(memory: str, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"labels must be .* integer dtype, got torch\.\w+; labels\.long\(\)"):
        LadderLoss(memory=memory)(make_output(), make_labels(2, 65, 97).to(dtype))


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_ignore_index(memory: str) -> None:
    labels = make_labels(2, 65, 97)
    expected = formula(make_output(), labels)
    actual = LadderLoss(ignore_index=-1, memory=memory)(make_output(), labels.where(labels != 255, -1))
    assert_near(actual, expected, "loss")


@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize("label", [CLASSES, 254, -1])
def test_label_out_of_range(memory: str, label: int) -> None:
    labels = make_labels(2, 65, 97)
    labels[1, 2, 3] = label
    error, message = (ValueError, rf"labels.*{label}\b") if memory == "lean" else (IndexError, rf"Target {label} ")
    with pytest.raises(error, match=message):  # the plain one is F.cross_entropy's
        LadderLoss(memory=memory)(make_output(), labels)


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_label_shape(memory: str) -> None:
    for shape in [(65, 97), (1, 65, 97), (2, 1, 65, 97)]:
        with pytest.raises(ValueError):
            LadderLoss(memory=memory)(make_output(), torch.zeros(shape, dtype=torch.int64))


def test_bad_constructor_arguments() -> None:
    for aux_weight in (-0.1, 1.1):
        with pytest.raises(ValueError, match="aux_weight"):
            LadderLoss(aux_weight=aux_weight)
    with pytest.raises(ValueError, match="memory"):
        LadderLoss(memory="fat")


def test_class_weights_move_and_copy_with_the_loss() -> None:
    loss = copy.deepcopy(LadderLoss(class_weights=torch.ones(CLASSES))).double()
    assert loss.class_weights.dtype == torch.float64
    check(loss, make_labels(2, 65, 97))


@pytest.mark.parametrize(
    ("whole", "layout"),
    [(False, torch.channels_last), (True, torch.contiguous_format)],
    ids=["compiled model", "compiled model and loss"],
)
def test_lean_loss_of_a_compiled_plain_model(whole: bool, layout: torch.memory_format) -> None:
    """What an expert does first: PyTorch's network, compiled, with this package's loss."""
    model = make_model(memory="plain").to(memory_format=layout)
    images, labels = make_images(2, 128, 128), make_labels(2, 128, 128)
    gradients = []
    for compiled, memory in ((False, "plain"), (True, "lean")):
        model.zero_grad()
        criterion = LadderLoss(memory=memory)

        def run(network: nn.Module, criterion: nn.Module = criterion) -> Tensor:
            return criterion(network(images), labels)

        if not compiled:
            loss = run(model)
        elif whole:
            loss = torch.compile(run, backend="aot_eager", fullgraph=True)(model)
        else:
            loss = run(torch.compile(model, backend="aot_eager", fullgraph=True))
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for expected, found in zip(*gradients):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
