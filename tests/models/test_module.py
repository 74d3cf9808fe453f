"""A lean ladder is a well-behaved nn.Module."""

import copy
import io
import pickle
import threading

import pytest
import torch
from support.comparison import assert_near, assert_same_bits
from support.ladder_models import make_images, make_labels, make_narrow_model, training_loss
from torch import Tensor

from ladderseg_fast import LadderLoss, SegmentationModel

SIZE = (4, 64, 64)


def gradients(model: SegmentationModel, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients of one step; running statistics stay what they were."""
    model = copy.deepcopy(model)
    training_loss(model, images, labels).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_equal_models(a: SegmentationModel, b: SegmentationModel) -> None:
    assert a.memory == b.memory
    assert a.training == b.training
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert_same_bits(x, y, name)
    images, labels = make_images(*SIZE), make_labels(*SIZE)
    for (name, x), y in zip(gradients(a, images, labels).items(), gradients(b, images, labels).values(), strict=True):
        assert_same_bits(x, y, name)


def plain_twin(model: SegmentationModel) -> SegmentationModel:
    """The plain model with the same numbers."""
    plain = copy.deepcopy(model)
    plain.memory = "plain"
    return plain


def test_deepcopy() -> None:
    model = make_narrow_model()
    model(make_images(*SIZE))  # a model that has worked holds more than its parameters
    twin = copy.deepcopy(model)
    assert_equal_models(model, twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(parameter.abs().sum() > 0 for parameter in model.parameters())


def test_pickle() -> None:
    model = make_narrow_model()
    model(make_images(*SIZE))
    assert_equal_models(pickle.loads(pickle.dumps(model)), model)


def test_save_and_load() -> None:
    model = make_narrow_model()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = make_narrow_model(seed=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_equal_models(other, model)


def test_to_dtype() -> None:
    model = make_narrow_model(dtype=torch.float32)
    images = make_images(*SIZE, torch.float32)
    assert model(images).logits.dtype == torch.float32
    model = model.to(torch.float64)
    assert model(images.double()).logits.dtype == torch.float64
    assert model.float()(images).logits.dtype == torch.float32


def test_zero_grad_and_accumulation() -> None:
    """Two backward passes add up; zero_grad starts anew. Batch norm is frozen, so both passes are alike."""
    model = make_narrow_model().eval()
    batches = [(make_images(2, 64, 96, seed=s), make_labels(2, 64, 96, seed=s)) for s in (1, 2)]
    separate = [gradients(model, *batch) for batch in batches]
    for batch in batches:
        training_loss(model, *batch).backward()
    for name, parameter in model.named_parameters():
        assert_near(parameter.grad, separate[0][name] + separate[1][name], name)
    model.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
    model.zero_grad(set_to_none=False)
    training_loss(model, *batches[0]).backward()
    for name, parameter in model.named_parameters():
        assert_near(parameter.grad, separate[0][name], name)


def test_large_batch_is_the_sum_of_small_ones() -> None:
    """With frozen batch norm: what gradient accumulation relies on."""
    model = make_narrow_model().eval()
    images = make_images(4, 64, 96)
    model(images).logits.sum().backward()
    whole = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for part in images.split(1):
        model(part).logits.sum().backward()
    for name, gradient in whole.items():
        assert_near(model.get_parameter(name).grad, gradient, name)


def test_no_grad() -> None:
    model = make_narrow_model()
    images = make_images(*SIZE)
    expected = copy.deepcopy(model)(images)
    with torch.no_grad():
        actual = model(images)
    assert expected.logits.requires_grad
    assert not actual.logits.requires_grad
    assert_near(actual.logits, expected.logits, "logits")
    assert_near(actual.aux, expected.aux, "aux")
    with torch.inference_mode():
        assert_near(model.eval()(images).logits, plain_twin(model)(images).logits, "logits")


def test_two_models_interleaved() -> None:
    """Forward of one, forward of the other, then their backward passes in either order."""
    first, second = make_narrow_model(seed=1), make_narrow_model(seed=2).eval()
    batches = [(make_images(*SIZE, seed=s), make_labels(*SIZE, seed=s)) for s in (1, 2)]
    expected = [gradients(model, *batch) for model, batch in zip((first, second), batches)]
    losses = [training_loss(model, *batch) for model, batch in zip((first, second), batches)]
    for loss in losses:
        loss.backward()
    for model, gradient_of in zip((first, second), expected):
        for name, parameter in model.named_parameters():
            assert_same_bits(parameter.grad, gradient_of[name], name)


def test_two_passes_of_one_model_interleaved() -> None:
    model = make_narrow_model().eval()
    batches = [(make_images(2, 64, s, seed=s), make_labels(2, 64, s, seed=s)) for s in (64, 97, 130)]
    expected = [gradients(model, *batch) for batch in batches]
    losses = [training_loss(model, *batch) for batch in batches]
    for i in (1, 0, 2):
        model.zero_grad()
        losses[i].backward()
        for name, parameter in model.named_parameters():
            assert_same_bits(parameter.grad, expected[i][name], name)


@pytest.mark.parametrize("shared", [True, False], ids=["one model", "a model each"])
def test_several_threads(shared: bool) -> None:
    """Steps that run at once in several threads compute what they compute one after the other."""
    count = 4
    models = [make_narrow_model(seed=0 if shared else i).eval() for i in range(count)]
    if shared:
        models = models[:1] * count
    batches = [(make_images(1, 64, 64 + 16 * i, seed=i), make_labels(1, 64, 64 + 16 * i, seed=i)) for i in range(count)]

    def step(i: int) -> list[Tensor]:
        return list(torch.autograd.grad(training_loss(models[i], *batches[i]), list(models[i].parameters())))

    expected = [step(i) for i in range(count)]
    failures = []

    def work(i: int) -> None:
        try:
            for _ in range(5):
                for actual, wanted, (name, _) in zip(step(i), expected[i], models[i].named_parameters()):
                    assert_near(actual, wanted, f"thread {i}: {name}")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_hooks_of_the_model() -> None:
    model = make_narrow_model()
    images = make_images(*SIZE).requires_grad_()
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append("pre"))
    model.register_forward_hook(lambda module, inputs, output: seen.append("forward"))
    model.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append("backward"))
    model(images).logits.sum().backward()
    assert seen == ["pre", "forward", "backward"]


def test_hooks_of_parameters() -> None:
    model = make_narrow_model()
    seen = []
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda gradient, name=name: seen.append((name, gradient.shape)))
    training_loss(model, make_images(*SIZE), make_labels(*SIZE)).backward()
    assert sorted(seen) == sorted((name, parameter.shape) for name, parameter in model.named_parameters())


def test_functional_call() -> None:
    """torch.func.functional_call puts other parameters and buffers in: the step uses them and leaves its own alone."""
    images, labels = make_images(*SIZE), make_labels(*SIZE)
    model, other = make_narrow_model(seed=1), make_narrow_model(seed=2)
    expected = gradients(other, images, labels)
    before = copy.deepcopy(model.state_dict())
    state = {name: tensor.detach().clone() for name, tensor in other.state_dict().items()}
    parameters = {name: state[name].requires_grad_() for name, _ in other.named_parameters()}

    output = torch.func.functional_call(model, state, (images,))
    actual = torch.autograd.grad(LadderLoss()(output, labels), list(parameters.values()))

    for name, gradient in zip(parameters, actual):
        assert_same_bits(gradient, expected[name], name)
    for name, tensor in model.state_dict().items():
        assert_same_bits(tensor, before[name], f"{name} of the model itself")
    other(images)
    for name, tensor in other.named_buffers():
        assert_same_bits(state[name], tensor, f"{name} that was put in")


def test_parameter_groups() -> None:
    """Another learning rate for the backbone, none for a frozen part."""
    model = make_narrow_model()
    model.features.conv0.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    backbone = [p for p in model.features.parameters() if p.requires_grad]
    rest = [p for name, p in model.named_parameters() if not name.startswith("features.")]
    groups = [{"params": backbone, "lr": 1e-4}, {"params": rest, "lr": 1e-3}]
    optimiser = torch.optim.Adam(groups)
    training_loss(model, make_images(*SIZE), make_labels(*SIZE)).backward()
    optimiser.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name == "features.conv0.weight"), name


def test_modified_parameter_is_noticed() -> None:
    """An optimiser's step between forward and backward would make gradients wrong; PyTorch refuses, and so do we."""
    model = make_narrow_model()
    loss = training_loss(model, make_images(*SIZE), make_labels(*SIZE))
    with torch.no_grad():
        model.features.denseblock2.denselayer1.conv1.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_backward() -> None:
    model = make_narrow_model()
    loss = training_loss(model, make_images(*SIZE), make_labels(*SIZE))
    loss.backward(retain_graph=True)
    first = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    loss.backward()
    for name, parameter in model.named_parameters():
        assert_near(parameter.grad, 2.0 * first[name], name)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_same_bits_every_time() -> None:
    model = make_narrow_model(dtype=torch.float32)
    images, labels = make_images(*SIZE, torch.float32), make_labels(*SIZE)
    first = gradients(model, images, labels)
    for _ in range(2):
        for name, gradient in gradients(model, images, labels).items():
            assert_same_bits(gradient, first[name], name)
