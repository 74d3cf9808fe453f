"""Batch norms with running statistics: one launch for many, of the values that the modules have now."""

import copy
from collections.abc import Callable

import pytest
import torch
from support.comparison import assert_same_bits
from support.ladder_models import make_images, make_model, make_narrow_model
from support.lean_equals_plain import batch_norms, randomise
from support.repeated_steps import Steps, compare, make_maps
from torch import nn

from ladderseg_fast.lean.joint_batch import BatchNorm
from ladderseg_fast.lean.running_norms import RunningNorms
from ladderseg_fast.ops.backend import EmulatedCuda, RecordedCuda, using


def make_norms(count: int) -> list[nn.BatchNorm2d]:
    return [randomise(nn.BatchNorm2d(3 + i), i).float().eval() for i in range(count)]


def parameters_of(norms: list[nn.BatchNorm2d]) -> dict[tuple[BatchNorm, str], torch.Tensor]:
    return {(norm, name): tensor.detach() for norm in norms for name, tensor in norm.named_parameters()}


def launches_of_prediction(training: bool) -> list[str]:
    """Kernels that a prediction launches, or a training step's forward pass with frozen batch norms."""
    with using(RecordedCuda(90, 132)) as backend:
        model = make_model(dtype=torch.float32).to("meta").train(training)
        for norm in batch_norms(model):
            norm.eval()
        with torch.set_grad_enabled(training):
            model(torch.zeros(2, 3, 64, 64, device="meta"))
        return [record.kernel for record in backend.take_records()]


@pytest.mark.parametrize("training", [False, True])
def test_a_launch_for_many(training: bool) -> None:
    kernels = launches_of_prediction(training)
    count = len([*batch_norms(make_model(dtype=torch.float32))])
    assert kernels.count("prepare_norms_float32") == -(-count // 48)
    assert "batch_norm_forward_float32" not in kernels


@pytest.mark.parametrize("first", [0, 2])
def test_whichever_is_asked_for_first(device: EmulatedCuda, first: int) -> None:
    norms = make_norms(4)
    prepared = RunningNorms(norms, parameters_of(norms), torch.empty(0))
    prepared.of(norms[first])
    for module in norms:
        norm, invstd = prepared.of(module)
        alone, alone_invstd = RunningNorms([], parameters_of(norms), torch.empty(0)).of(module)
        assert_same_bits(norm.scale, alone.scale, "scale")
        assert_same_bits(norm.mean, module.running_mean, "mean")
        assert_same_bits(norm.shift, module.bias.detach(), "shift")
        assert_same_bits(invstd, alone_invstd, "invstd")


def test_one_with_statistics_of_the_batch_is_left_out(device: EmulatedCuda) -> None:
    norms = make_norms(3)
    norms[1].train()
    norms[1].eps = -1.0  # which would be refused
    prepared = RunningNorms(norms, parameters_of(norms), torch.empty(0))
    prepared.of(norms[0])
    prepared.of(norms[2])
    with pytest.raises(ValueError, match="eps must be at least 0"):
        prepared.of(norms[1])


def changed_in_place(steps: Steps) -> None:
    with torch.no_grad():
        for tensor in (*steps.module.parameters(), *steps.module.buffers()):
            tensor.mul_(2)


def changed_through_data(steps: Steps) -> None:
    norm = steps.module.norm
    norm.running_mean.data.add_(0.5)
    norm.running_var.data.mul_(3)
    norm.weight.data.mul_(-1)
    norm.bias.data.sub_(1)


def changed_through_numpy(steps: Steps) -> None:
    steps.module.norm.running_var.numpy()[:] *= 5


def other_memory(steps: Steps) -> None:
    norm = steps.module.norm
    norm.running_var.data = norm.running_var.data * 2
    norm.weight.data = norm.weight.data * 2


def loaded(steps: Steps) -> None:
    state = copy.deepcopy(steps.module.state_dict())
    steps.module.load_state_dict({name: tensor * 2 for name, tensor in state.items()})


def stepped(steps: Steps) -> None:
    for parameter in steps.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(steps.module.parameters(), lr=0.1).step()


def other_tensor(steps: Steps) -> None:
    steps.module.norm.running_mean = steps.module.norm.running_mean + 1


@pytest.mark.parametrize(
    "edit",
    [
        changed_in_place,
        changed_through_data,
        changed_through_numpy,
        other_memory,
        loaded,
        stepped,
        other_tensor,
    ],
    ids=lambda edit: edit.__name__,
)
@pytest.mark.parametrize("grad", [False, True], ids=["prediction", "frozen"])
def test_repeated_steps_read_the_values_of_now(device: EmulatedCuda, edit: Callable[[Steps], None], grad: bool) -> None:
    def scenario(steps: Steps) -> None:
        steps.module.eval()
        for step in range(5):
            if step >= 3:
                edit(steps)
            if grad:
                steps()
            else:
                with torch.no_grad():
                    steps.note({"out": steps.forward(make_maps(step))})

    assert compare(device, scenario)["repeated"] == (6 if grad else 3)


def test_a_model_predicts_with_the_statistics_of_now(device: EmulatedCuda) -> None:
    """Training steps between predictions change the running statistics of many batch norms."""
    model = make_narrow_model(dtype=torch.float32)
    images = make_images(2, 64, 64, torch.float32)
    for _ in range(4):
        with torch.no_grad():
            model.train()(images)
            found = model.eval()(images).logits
            device.repeats_steps = False
            try:
                expected = copy.deepcopy(model)(images).logits
            finally:
                device.repeats_steps = True
        assert_same_bits(found, expected, "logits")
    assert model._workspace.recordings.counts["repeated"] >= 4
