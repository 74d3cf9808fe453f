"""What happens to a lean step's tensors between forward and backward, and what may not run as one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_near, assert_same_bits
from support.ladder_models import make_images, make_labels, make_model, training_loss
from support.lean_equals_plain import randomise
from support.processes import output_of
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.proxy_tensor import make_fx

from ladderseg_fast import LadderDenseNet, LadderLoss, lean
from ladderseg_fast.lean import program
from ladderseg_fast.lean.double_backward import refuse_double_backward
from ladderseg_fast.lean.stages import DenseBlockStage, Stage
from ladderseg_fast.lean.stages.hand_on import HandOnStage
from ladderseg_fast.lean.stages.head import HeadStage
from ladderseg_fast.lean.stages.pooling import AveragePoolStage, LastChannelsStage, MaxPoolStage
from ladderseg_fast.lean.stages.rectified import RectifiedStage
from ladderseg_fast.nn import DenseBlock, Head, TransitionUp
from ladderseg_fast.ops.backend import RecordedCuda, using

SIZE = (2, 64, 64)


def gradients(model: LadderDenseNet, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_gradients(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        assert_same_bits(actual[name], gradient, name)


def reversed_strides(x: Tensor) -> Tensor:
    return x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim())))


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (Tensor.contiguous, lambda x: x),
        (lambda x: x.detach().numpy().copy(), torch.from_numpy),
        (reversed_strides, lambda x: x),
        (lambda x: -x.detach(), torch._neg_view),
    ],
    ids=["contiguous", "numpy", "reversed", "negative bit"],
)
def test_saved_tensors_may_come_back_with_other_strides(pack: Callable, unpack: Callable) -> None:
    model, images, labels = make_model(), make_images(*SIZE), make_labels(*SIZE)
    expected = gradients(model, training_loss(model, images, labels))
    with saved_tensors_hooks(pack, unpack):
        loss = training_loss(model, images, labels)
    assert_same_gradients(gradients(model, loss), expected)


@pytest.mark.real_use
@pytest.mark.parametrize("unpack", [Tensor.float, lambda x: x[:1]], ids=["dtype", "shape"])
def test_saved_tensors_come_back_as_they_were(unpack: Callable[[Tensor], Tensor]) -> None:
    model = make_model()
    with saved_tensors_hooks(lambda x: x, unpack):
        output = model(make_images(*SIZE)).logits
    with pytest.raises(RuntimeError, match="saved_tensors_hooks were given"):
        output.sum().backward()


@pytest.mark.real_use
@pytest.mark.parametrize("asks_torch", [True, False])
def test_hooks_may_keep_another_tensor_of_the_same_memory(asks_torch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map's own place in the workspace must not be taken by another one meanwhile."""
    if not asks_torch:  # as with releases of torch that cannot say whether there are hooks
        monkeypatch.setattr(program, "hooks_are_active", lambda: None)
    model, images, labels = make_model(), make_images(*SIZE), make_labels(*SIZE)
    expected = gradients(model, training_loss(model, images, labels))
    model = make_model()
    with saved_tensors_hooks(Tensor.detach, lambda x: x):
        loss = training_loss(model, images, labels)
    assert_same_gradients(gradients(model, loss), expected)


@pytest.mark.real_use
def test_dilation_set_before_backward_does_not_count() -> None:
    def step(change: bool) -> dict[str, Tensor]:
        model = make_model()
        loss = training_loss(model, make_images(*SIZE), make_labels(*SIZE))
        if change:
            conv = model.features.denseblock2.denselayer1.conv2
            conv.dilation, conv.padding = (2, 2), (2, 2)
        return gradients(model, loss)

    assert_same_gradients(step(True), step(False))


@pytest.mark.real_use
def test_statistics_and_labels_changed_before_backward_do_not_count() -> None:
    """Plain PyTorch raises; a lean step and the loss have taken what they need."""
    model, images, labels = make_model().eval(), make_images(*SIZE), make_labels(*SIZE)
    expected = gradients(model, training_loss(model, images, labels))
    loss = training_loss(model, images, labels)
    for buffer in model.buffers():
        buffer.zero_()
    labels.zero_()
    assert_same_gradients(gradients(model, loss), expected)


@pytest.mark.real_use
def test_parameters_changed_before_backward_are_noticed() -> None:
    model = make_model().eval()
    loss = training_loss(model, make_images(*SIZE), make_labels(*SIZE))
    with torch.no_grad():
        model.context.conv2.weight.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.real_use
def test_a_negative_bit_is_resolved() -> None:
    model, images = make_model(), make_images(*SIZE)
    negative = torch.complex(images, images).conj().imag
    assert negative.is_neg()
    expected, output = model(-images).logits, model(negative).logits
    assert_same_bits(output, expected, "logits")
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output.dtype)
    parameters = list(model.parameters())
    keep = {"retain_graph": True, "allow_unused": True}
    found = torch.autograd.grad(output, parameters, torch.complex(grad, grad).conj().imag, **keep)
    for (name, _), a, b in zip(
        model.named_parameters(), found, torch.autograd.grad(output, parameters, -grad, **keep), strict=True
    ):
        if b is not None:
            assert_near(a, b, name)


def logits(model: LadderDenseNet) -> Callable[[Tensor], Tensor]:
    return lambda images: model(images).logits


def in_forward_mode(model: LadderDenseNet, images: Tensor) -> None:
    with forward_ad.dual_level():
        model(forward_ad.make_dual(images, images))


def on_fake_tensors(model: LadderDenseNet, images: Tensor) -> None:
    with FakeTensorMode() as mode:
        model(mode.from_tensor(images))


@pytest.mark.real_use
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize(
    "transform",
    [
        in_forward_mode,
        on_fake_tensors,
        lambda model, images: torch.func.jvp(logits(model), (images,), (images,)),
        lambda model, images: torch.func.vjp(logits(model), images),
        lambda model, images: torch.vmap(lambda image: model(image[None]).logits)(images),
        lambda model, images: make_fx(logits(model))(images),
        lambda model, images: make_fx(logits(model), pre_dispatch=True)(images),
        lambda model, images: model.to("meta")(images.to("meta")),
    ],
    ids=["dual", "fake", "jvp", "vjp", "vmap", "make_fx", "make_fx pre_dispatch", "meta"],
)
def test_what_a_lean_step_cannot_go_through_names_the_way_out(
    transform: Callable[[LadderDenseNet, Tensor], object], grad: bool
) -> None:
    model = make_model().eval().requires_grad_(grad)
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match='memory="plain"'):
        transform(model, make_images(*SIZE))


@pytest.mark.real_use
def test_frozen_parameters_with_tangents_are_refused() -> None:
    model = make_model().eval().requires_grad_(False)
    weights = dict(model.named_parameters())
    with pytest.raises(RuntimeError, match="forward mode"):
        torch.func.jvp(
            lambda w: torch.func.functional_call(model, w, make_images(*SIZE)).logits, (weights,), (weights,)
        )


@pytest.mark.real_use
def test_batched_gradients_are_refused() -> None:
    model, images = make_model(), make_images(*SIZE).requires_grad_()
    output = model(images).logits
    with pytest.raises(RuntimeError, match="memory="):
        torch.autograd.grad(output, images, torch.randn(3, *output.shape).double(), is_grads_batched=True)


TRACES = """
import torch
from support.ladder_models import make_images, make_model, TINY, TINY_SHAPE
from ladderseg_fast.nn import DENSENETS
DENSENETS[TINY] = TINY_SHAPE
model, images = make_model(), make_images(2, 64, 64)
def onnx(model, images):
    torch.onnx.export(model, (images,), "/dev/null", dynamo=False)
for trace in (torch.jit.trace, onnx):
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            try:
                trace(model, images)
            except RuntimeError as error:
                print(error)
assert model(images).logits.isfinite().all()
"""


@pytest.mark.real_use
def test_tracing_is_an_error_and_ends_no_process(tmp_path: Path) -> None:
    output = output_of(TRACES, tmp_path)
    assert output.count('memory="lean" cannot be traced') == 4, output
    assert output.count('memory="plain"') == 4


def test_loss_of_lean_scores_in_forward_mode() -> None:
    output = make_model(memory="plain")(make_images(*SIZE))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward mode"):
        logits = forward_ad.make_dual(output.logits.detach(), torch.ones_like(output.logits))
        LadderLoss()(output._replace(logits=logits), make_labels(*SIZE))


def test_what_lies_on_another_device_is_refused() -> None:
    up = TransitionUp(coarse_channels=6, skip_in_channels=13, skip_channels=7, out_channels=5)
    coarse, skip = torch.randn(1, 6, 2, 2), torch.randn(1, 13, 4, 4)
    with using(RecordedCuda(61, 20)):  # which has tensors on the meta device
        with pytest.raises(ValueError, match="coarse is on meta but skip is on cpu"):
            lean.transition_up(up, coarse.to("meta"), skip)
        with pytest.raises(ValueError, match="coarse is on meta but a parameter is on cpu"):
            lean.transition_up(up, coarse.to("meta"), skip.to("meta"))


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("stage", ["last channels", "average pool", "max pool", "hand on", "rectified"])
def test_stages_that_read_an_input_without_gradient(stage: str, wanted: bool) -> None:
    norm = randomise(nn.BatchNorm2d(6), 1).double()
    make, plain, channels = {
        "last channels": (lambda: LastChannelsStage("x", "y", 2), lambda x: x[:, 2:], 4),
        "average pool": (lambda: AveragePoolStage("x", "y", 6), lambda x: F.avg_pool2d(x, 2), 6),
        "max pool": (lambda: MaxPoolStage("x", "y", 6), lambda x: F.max_pool2d(x, 3, 2, 1), 6),
        "hand on": (lambda: HandOnStage("x", "y"), lambda x: x, 6),
        "rectified": (lambda: RectifiedStage(norm, "x", "y"), lambda x: norm(x).relu(), 6),
    }[stage]
    head = randomise(Head(channels, num_classes=3), 2).double()
    x = torch.rand(2, 6, 6, 8, dtype=torch.float64).requires_grad_(wanted)
    (actual,) = program.run(program.Program([make(), HeadStage(head, "y", "out")], ("x",), ("out",)), [x])
    expected = head(plain(x))
    assert_near(actual, expected, "scores")
    leaves = [*head.parameters(), *(norm.parameters() if stage == "rectified" else ()), *([x] if wanted else ())]
    weight = torch.randn_like(expected)
    pairs = zip(torch.autograd.grad(actual, leaves, weight), torch.autograd.grad(expected, leaves, weight), strict=True)
    for found, gradient in pairs:
        assert_near(found, gradient, "gradient")


def test_gradients_without_graph_are_handed_back() -> None:
    gradient = torch.ones(3)
    assert refuse_double_backward([None], [torch.ones(3, requires_grad=True)]) == (None,)
    assert refuse_double_backward([gradient, None], [None, torch.ones(3)]) == (gradient, None)


@pytest.mark.parametrize("kind", [AveragePoolStage, MaxPoolStage])
def test_a_block_behind_a_pooling_whose_input_needs_no_gradient(kind: type[Stage]) -> None:
    """Both write one feature, of which the block needs the gradient."""
    block, head = randomise(DenseBlock(6, layers=2, growth_rate=3), 1).double(), randomise(Head(12, 3), 2).double()
    x = torch.rand(2, 6, 6, 8, dtype=torch.float64)
    stages = [kind("x", "y", 12), DenseBlockStage(block, "y"), HeadStage(head, "y", "out")]
    (actual,) = program.run(program.Program(stages, ("x",), ("out",)), [x])
    expected = head(block(F.avg_pool2d(x, 2) if kind is AveragePoolStage else F.max_pool2d(x, 3, 2, 1)))
    assert_near(actual, expected, "scores")
    leaves, weight = [*block.parameters(), *head.parameters()], torch.randn_like(expected)
    pairs = zip(torch.autograd.grad(actual, leaves, weight), torch.autograd.grad(expected, leaves, weight), strict=True)
    for found, gradient in pairs:
        assert_near(found, gradient, "gradient")
