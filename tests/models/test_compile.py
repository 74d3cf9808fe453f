"""Lean networks as one operator in what torch.compile compiles."""

import copy
import gc
import io
from collections.abc import Callable, Iterator

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from support.comparison import assert_same_bits
from support.ladder_models import CLASSES, TINY, make_images, make_labels, make_model
from support.lean_equals_plain import randomise
from torch import Tensor, nn

from ladderseg_fast import LadderDenseNet, LadderLoss, lean, list_models
from ladderseg_fast.lean import kept_call
from ladderseg_fast.lean.graph_operators import _like
from ladderseg_fast.lean.in_graph import can_run_in_graph
from ladderseg_fast.lean.joint_batch import NORM_BUFFERS
from ladderseg_fast.lean.traced_state import as_traced
from ladderseg_fast.models.densenets import DenseNet32x, DilatedDenseNet
from ladderseg_fast.models.network import Network
from ladderseg_fast.models.registry import create_model

pytestmark = pytest.mark.real_use

SIZE = (2, 64, 96)
IMAGES, LABELS = make_images(*SIZE), make_labels(*SIZE)


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def step(model: nn.Module, images: Tensor = IMAGES, labels: Tensor = LABELS) -> Tensor:
    return LadderLoss()(model(images), labels)


def compiled(function: Callable[..., Tensor], backend: str = "eager") -> Callable[..., Tensor]:
    return torch.compile(function, backend=backend, fullgraph=True)


def assert_same_state(found: nn.Module, expected: nn.Module) -> None:
    """The same gradients, parameters and buffers, bit for bit."""
    for (name, one), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        assert_same_bits(one.detach(), other.detach(), name)
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            assert_same_bits(one.grad, other.grad, name)
    for (name, one), other in zip(found.named_buffers(), expected.buffers(), strict=True):
        assert_same_bits(one, other, name)


def assert_same_steps(
    found: nn.Module,
    expected: nn.Module,
    run: Callable[..., Tensor],
    uncompiled: Callable[..., Tensor] = step,
    given: tuple[Tensor, Tensor] = (IMAGES, LABELS),
) -> None:
    """The same loss, gradients and statistics of a step of `found` by `run` as of an uncompiled one of `expected`."""
    found.zero_grad()
    expected.zero_grad()
    loss, wanted = run(found, *given), uncompiled(expected, *given)
    assert_same_bits(loss.detach(), wanted.detach(), "loss")
    loss.backward()
    wanted.backward()
    assert_same_state(found, expected)


def test_training_with_sizes_that_vary() -> None:
    """One graph for all of them; the memory of a step is that of the uncompiled one."""
    model, twin = make_model(), make_model()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    run = torch.compile(step, backend=counter, fullgraph=True)
    optimizers = [torch.optim.SGD(each.parameters(), 0.1, momentum=0.9) for each in (model, twin)]
    for size in ((2, 128, 160), (3, 190, 131), (3, 190, 131)):
        images, labels = make_images(*size), make_labels(*size)
        for axis in range(3):
            torch._dynamo.mark_dynamic(images, axis and axis + 1)
            torch._dynamo.mark_dynamic(labels, axis)
        assert_same_steps(twin, model, run, given=(images, labels))
        for optimizer in optimizers:
            optimizer.step()
    assert counter.frame_count == 1
    assert twin._workspace.arena_size == model._workspace.arena_size > 0


@pytest.mark.slow
def test_inductor() -> None:
    model, twin = make_model(dtype=torch.float32), make_model(dtype=torch.float32)
    run = compiled(step, "inductor")
    for _ in range(2):
        assert_same_steps(twin, model, run, given=(IMAGES.float(), LABELS))


@pytest.mark.slow
def test_modes() -> None:
    model, twin = make_model(), make_model()
    run = compiled(step)
    for training in (True, False, True):
        for each in (model, twin):
            each.train(training)
            each.head.norm.eval()
            each.context.norm1.momentum = None
        assert_same_steps(twin, model, run)
    for region in (torch.no_grad(), torch.inference_mode()):
        with region:
            assert_same_bits(run(twin), step(model), "loss")
    assert_same_state(twin, model)


def test_gradients_of_images_and_another_loss() -> None:
    """Without a loss on the auxiliary scores their head has no gradient, as uncompiled."""

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        scores = model(images).logits
        return F.cross_entropy(scores, labels[:, ::4, ::4], ignore_index=255)

    model, twin = (copy.deepcopy(make_model().eval().requires_grad_(False)) for _ in range(2))
    for each in (model, twin):
        each.head.requires_grad_()
        each.aux_head.requires_grad_()
    given = [IMAGES.clone().requires_grad_() for _ in range(2)]
    compiled(run)(twin, given[0], LABELS).backward()
    run(model, given[1], LABELS).backward()
    assert_same_bits(given[0].grad, given[1].grad, "images")
    assert model.aux_head.conv.weight.grad is None
    assert_same_state(twin, model)


@pytest.mark.slow
def test_two_calls_in_a_graph() -> None:
    def run(model: nn.Module, *given: Tensor) -> Tensor:
        return step(model, *given) + 2 * step(model, *given)

    model, twin = make_model().eval(), make_model().eval()
    assert_same_steps(twin, model, compiled(run, "aot_eager"), run)


@pytest.mark.slow
def test_autocast_and_a_parametrization() -> None:
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return step(model, images, labels)

    model, twin = make_model(dtype=torch.float32), make_model(dtype=torch.float32)
    for each in (model, twin):
        nn.utils.parametrizations.weight_norm(each.head.conv)
    images = IMAGES.float().to(memory_format=torch.channels_last)
    assert_same_steps(twin, model, compiled(run, "aot_eager"), run, (images, LABELS))


@pytest.mark.slow
def test_functional_call_reads_and_writes_what_it_is_given() -> None:
    def run(state: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, state, (IMAGES,)).logits

    model = make_model()
    states = [{k: v.clone() for k, v in make_model(seed=3).state_dict().items()} for _ in range(2)]
    assert_same_bits(compiled(run, "aot_eager")(states[0]), run(states[1]), "scores")
    for name, tensor in states[1].items():
        assert_same_bits(states[0][name], tensor, name)
    assert_same_state(model, make_model())


def test_what_forward_keeps_lives_as_long_as_the_graph() -> None:
    model, twin = make_model(), make_model()
    run, before = compiled(step, "aot_eager"), len(kept_call._tokens)
    loss = run(twin)
    assert len(kept_call._tokens) == before + 1 and twin._workspace.in_use > 0
    del loss
    gc.collect()
    assert len(kept_call._tokens) == before and twin._workspace.in_use == 0
    found, expected = run(twin), step(model)
    for loss in (found, expected):
        loss.backward(retain_graph=True)
        loss.backward()
    assert twin._workspace.in_use == 0
    for (name, one), other in zip(twin.named_parameters(), model.parameters(), strict=True):
        assert_same_bits(one.grad, other.grad, name)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        found.backward()


@pytest.mark.slow
def test_compiled_autograd() -> None:
    model, twin = make_model(), make_model()
    loss = step(twin)
    step(model).backward()
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(loss.backward, backend="eager")()
    assert_same_state(twin, model)


@pytest.mark.slow
def test_copies_and_files() -> None:
    model, twin = make_model(), make_model()
    run = compiled(step)
    assert_same_steps(twin, model, run)
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    for each in (copy.deepcopy(twin), torch.load(file, weights_only=False)):
        assert each._handle != twin._handle
        state = copy.deepcopy(twin.state_dict())
        model.load_state_dict(state)
        assert_same_steps(each, model, run)
        assert_same_bits(twin.features.norm0.running_mean, state["features.norm0.running_mean"], "the original's")


def test_a_model_that_is_gone() -> None:
    model = make_model()
    handle = model._handle
    del model
    gc.collect()
    for gone, where in ((handle, "has been deleted"), ("other.0", "is in another process")):
        with pytest.raises(RuntimeError, match=f"the model that this graph was compiled for {where}"):
            torch.ops.ladderseg_fast.lean_network(gone, [], IMAGES, [], [], [])


def test_refusals() -> None:
    model = make_model()
    run = torch.compile(step, backend="eager")
    with pytest.raises(RuntimeError, match=r"cannot be differentiated by torch.func"):
        torch.compile(torch.func.grad(lambda x: model(x).logits.sum()), backend="eager")(IMAGES)
    with pytest.raises(ValueError, match="images must be at least 64 x 64, got"):
        run(model, IMAGES[:, :, :32])
    run(model)
    model.context.conv1.register_forward_hook(lambda *_: None)
    with pytest.raises(lean.UnsupportedModuleError, match="context.conv1 has a forward hook"):
        run(model)


def test_saved_tensors_hooks_see_the_maps() -> None:
    """They break the graph, as before; and if they are set later, a lost token is reported."""
    model, twin, seen = make_model(), make_model(), []

    def pack(x: Tensor) -> Tensor:
        seen.append(x.shape)
        return x.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        assert_same_steps(twin, model, torch.compile(step, backend="eager"))
    assert torch.Size([2, 128, 16, 24]) in seen or any(shape[2:] == (16, 24) for shape in seen if len(shape) == 4)


def test_the_operator_does_what_it_promises() -> None:
    """Mutation, aliasing, and the shapes and strides that a compiler is told."""
    model = make_model()
    arguments = lean.in_graph.operator_arguments(model, model._handle, IMAGES)
    forward = torch.ops.ladderseg_fast.lean_network_forward.default
    handle, training, images, *tensors = arguments
    torch.library.opcheck(
        forward,
        (handle, -1, training, IMAGES.dtype, images.detach(), *([x.detach() for x in each] for each in tensors)),
        test_utils=("test_schema", "test_faketensor"),
    )


DESIGNS: dict[str, Callable[[], LadderDenseNet]] = {
    "pyramid": lambda: LadderDenseNet(TINY, CLASSES, context="pyramid", split_blocks=()),
    "dilated": lambda: DilatedDenseNet(TINY, CLASSES),
    "32x": lambda: DenseNet32x(TINY, CLASSES),
    "resnet": lambda: create_model("ladder_resnet18", CLASSES),
}


def check_sizes(model: Network) -> None:
    program, channels = model.program_for_sizes()
    with torch.device("meta"):
        outputs = Network.forward(model, torch.empty(2, 3, 193, 158))
    found = [(c, *size) for c, size in zip(channels, program.sizes((193, 158)), strict=True)]
    assert found == [tuple(each.shape[1:]) for each in outputs if each is not None]


@pytest.mark.parametrize("design", DESIGNS)
def test_sizes(design: str) -> None:
    with torch.device("meta"):
        check_sizes(DESIGNS[design]().eval())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_models() if name != TINY])
def test_sizes_of_registered_models(name: str) -> None:
    with torch.device("meta"):
        check_sizes(create_model(name, CLASSES).eval())


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_designs(design: str) -> None:
    model = randomise(DESIGNS[design](), 0).double()
    assert_same_steps(copy.deepcopy(model), model, compiled(step, "aot_eager"))


def test_networks_that_cannot_be_an_operator() -> None:
    network = make_model()
    assert can_run_in_graph(network)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        assert not can_run_in_graph(network)
    network._is_replica = True
    assert not can_run_in_graph(network)


def test_what_forward_kept_and_nobody_has_any_more() -> None:
    with pytest.raises(RuntimeError, match="has lost what its forward pass kept"):
        kept_call.take(torch.tensor(-1))


def test_gradients_have_the_dtype_and_strides_that_the_operator_promises() -> None:
    weight = torch.ones(3, 4, 2, 2).contiguous(memory_format=torch.channels_last)
    assert not _like(None, weight).any()
    found = _like(torch.full((3, 4, 2, 2), 2.0, dtype=torch.float64), weight)
    assert (found.dtype, found.stride()) == (weight.dtype, weight.stride()) and (found == 2.0).all()
    assert _like(found, weight) is found


def test_modes_and_buffers_of_the_trace_count_in_its_region_only() -> None:
    norm, bare = nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)
    modules = [nn.Sequential(norm, bare), norm, bare]
    own, given = norm.running_mean, torch.full((3,), 7.0)
    fixed = [given if name == "running_mean" else norm._buffers[name] for name in NORM_BUFFERS]
    with as_traced(modules, [True, False, True], fixed, []):
        assert norm.running_mean is given and not norm.training and bare.training
    assert norm.running_mean is own and norm.training
