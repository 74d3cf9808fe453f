"""Lean steps in what torch.compile compiles."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from support.comparison import assert_same_bits
from support.ladder_models import make_images, make_labels, make_model
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss, lean

pytestmark = pytest.mark.real_use


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def step(model: LadderDenseNet, images: Tensor, labels: Tensor) -> Tensor:
    return LadderLoss()(model(images), labels)


def gradients(model: LadderDenseNet, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("whole_step", [True, False], ids=["step", "model"])
def test_training_steps_of_several_sizes(whole_step: bool) -> None:
    model, twin = make_model(), make_model()
    compiled = torch.compile(step if whole_step else twin, backend="aot_eager")
    for size in ((2, 64, 96), (2, 64, 96), (3, 96, 64), (1, 128, 128)):
        images, labels = make_images(*size), make_labels(*size)
        loss = step(model, images, labels)
        found = compiled(twin, images, labels) if whole_step else LadderLoss()(compiled(images), labels)
        assert_same_bits(found.detach(), loss.detach(), "loss")
        expected = gradients(model, loss)
        for name, gradient in gradients(twin, found).items():
            assert_same_bits(gradient, expected[name], name)
        for name, buffer in model.named_buffers():
            assert_same_bits(twin.get_buffer(name), buffer, name)


def test_a_budget_and_prediction() -> None:
    model, images = make_model(), make_images(2, 64, 64)
    expected = model.predict(images)
    model.memory = "1GiB"
    compiled = torch.compile(model, backend="aot_eager")
    compiled(images).logits.sum().backward()
    assert torch.equal(torch.compile(make_model().predict, backend="aot_eager")(images), expected)


def test_a_part_alone() -> None:
    block = make_model().features.denseblock1
    x = torch.randn(2, 64, 8, 8, dtype=torch.float64)
    compiled = torch.compile(lambda x: 2 * lean.dense_block(block, x + 1), backend="aot_eager")
    assert_same_bits(compiled(x).detach(), (2 * lean.dense_block(block, x + 1)).detach(), "block")


def test_scores_alone() -> None:
    model, images = make_model().eval(), make_images(2, 64, 64)
    compiled = torch.compile(lambda x: 2 * model.lean_scores(x + 1)[0], backend="aot_eager")
    assert_same_bits(compiled(images).detach(), (2 * model.lean_scores(images + 1)[0]).detach(), "scores")


def test_fullgraph_is_refused_with_the_reason() -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match='memory="plain"'):
        torch.compile(make_model(), backend="eager", fullgraph=True)(make_images(2, 64, 64))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_one_graph_break_for_the_whole_network(training: bool) -> None:
    model, images, labels = make_model().train(training), make_images(2, 64, 64), make_labels(2, 64, 64)
    explanation = torch._dynamo.explain(step)(model, images, labels)
    (reason,) = explanation.break_reasons
    assert 'memory="lean"' in reason.reason
    assert torch.ops.ladderseg_fast.upsample_cross_entropy.default in explanation.ops_per_graph[-1]


def test_the_compiler_is_not_loaded_for_those_who_do_not_compile() -> None:
    code = (
        "import sys, torch, ladderseg_fast; from ladderseg_fast.nn import DENSENETS, DenseNetShape\n"
        "DENSENETS['tiny'] = DenseNetShape((1, 2, 1, 2))\n"
        "model = ladderseg_fast.LadderDenseNet('tiny', 3)\n"
        "before = 'torch._dynamo' in sys.modules\n"
        "model(torch.rand(2, 3, 64, 64))\n"
        "assert before or 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compiled_autograd() -> None:
    model, images, labels = make_model(), make_images(2, 64, 64), make_labels(2, 64, 64)
    expected = gradients(model, step(model, images, labels))
    loss = step(model, images, labels)
    model.zero_grad()
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(loss.backward, backend="eager")()
    for name, parameter in model.named_parameters():
        assert_same_bits(parameter.grad, expected[name], name)
