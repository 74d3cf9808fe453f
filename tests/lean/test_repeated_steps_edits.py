"""Edits of modules between steps: repeated steps do what the modules say now, or are interpreted."""

from collections.abc import Callable

import pytest
import torch
from support.lean_equals_plain import randomise
from support.repeated_steps import Steps, compare, make_maps, settle

from ladderseg_fast import lean
from ladderseg_fast.nn import TransitionUp
from ladderseg_fast.ops.backend import EmulatedCuda


def other_storage(steps: Steps) -> None:
    for parameter in steps.module.parameters():
        parameter.data = parameter.data.clone() * 2


def assigned_state(steps: Steps) -> None:
    state = {name: tensor.clone() for name, tensor in steps.module.state_dict().items()}
    steps.module.load_state_dict(state, assign=True)


def other_momentum(steps: Steps) -> None:
    steps.module.norm.momentum = 0.5


def other_eps(steps: Steps) -> None:
    steps.module.norm.eps = 0.1


def frozen_norm(steps: Steps) -> None:
    steps.module.norm.eval()


def frozen_weight(steps: Steps) -> None:
    steps.module.conv.weight.requires_grad_(False)


def no_running_statistics(steps: Steps) -> None:
    norm = steps.module.norm
    norm.track_running_stats = False
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def no_affine(steps: Steps) -> None:
    steps.module.norm.weight = steps.module.norm.bias = None


def wide_weight(steps: Steps) -> None:
    weight = steps.module.conv.weight
    weight.data = torch.stack([weight.data, weight.data], dim=-1)[..., 0]


def unaligned_weight(steps: Steps) -> None:
    weight = steps.module.conv.weight
    memory = torch.zeros(weight.numel() + 1)[1:]
    weight.data = memory.view_as(weight).copy_(weight.data)


def double_statistics(steps: Steps) -> None:
    norm = steps.module.norm
    norm.running_mean, norm.running_var = norm.running_mean.double(), norm.running_var.double()


def counter_of_floats(steps: Steps) -> None:
    steps.module.norm.num_batches_tracked = steps.module.norm.num_batches_tracked.float()


def cumulative_average(steps: Steps) -> None:
    steps.module.norm.momentum = None


def parametrized(steps: Steps) -> None:
    torch.nn.utils.parametrizations.weight_norm(steps.module.conv)


#: Edits, and whether steps go on to be repeated at once.
EDITS = {
    other_storage: True,
    assigned_state: True,
    other_momentum: False,
    other_eps: False,
    frozen_norm: False,
    frozen_weight: False,
    no_running_statistics: False,
    no_affine: False,
    wide_weight: False,
    unaligned_weight: False,
    double_statistics: False,
    counter_of_floats: False,
    cumulative_average: False,
    parametrized: False,
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_edit_of_the_module(device: EmulatedCuda, edit: Callable[[Steps], None]) -> None:
    """Steps do what the module says now."""

    def scenario(steps: Steps) -> None:
        settle(steps)
        steps()
        edit(steps)
        steps()
        before.append(steps.counts.get("repeated", 0))
        for _ in range(2):
            steps()

    before: list[int] = []
    counts = compare(device, scenario)
    assert before[-1] == (4 if EDITS[edit] else 2)
    repeats_again = edit is not cumulative_average  # its factor is read to the host
    assert counts["repeated"] == (8 if EDITS[edit] else 4 if repeats_again else 2)


@pytest.mark.parametrize("edit", [other_storage, wide_weight, unaligned_weight], ids=lambda edit: edit.__name__)
def test_weight_with_other_memory_before_backward(device: EmulatedCuda, edit: Callable[[Steps], None]) -> None:
    """Autograd does not notice it. Backward reads the new values, wherever they are."""

    def scenario(steps: Steps) -> None:
        settle(steps)
        for _ in range(2):
            x = make_maps(steps.count)
            out = steps.forward(x)
            edit(steps)
            steps.backward(x, out)

    assert compare(device, scenario)["repeated"] == (4 if edit is other_storage else 1)


@pytest.mark.parametrize("aligned", [True, False])
def test_input_with_other_memory_before_backward(device: EmulatedCuda, aligned: bool) -> None:
    def scenario(steps: Steps) -> None:
        for step in range(5):
            x = make_maps(step).detach().contiguous(memory_format=torch.channels_last).requires_grad_()
            out = steps.forward(x)
            if step >= 2:
                memory = torch.zeros(x.numel() + 4)[4 if aligned else 1 :][: x.numel()].view(2, 4, 6, 8)
                x.data = memory.permute(0, 3, 1, 2).copy_(2 * x.data)
            steps.backward(x, out)

    assert compare(device, scenario)["repeated"] == (6 if aligned else 1)


def test_refused_edits_are_refused_after_repeated_steps(device: EmulatedCuda) -> None:
    steps = Steps()
    for _ in range(3):
        steps()
    handle = steps.module.norm.register_forward_hook(lambda *arguments: None)
    with pytest.raises(lean.UnsupportedModuleError):
        steps()
    handle.remove()
    steps()
    assert steps.counts["repeated"] == 4


def test_running_statistics_that_become_shared_are_refused(device: EmulatedCuda) -> None:
    up = randomise(TransitionUp(4, 8, 4, 4), 0).float()
    workspace = lean.Workspace()

    def step() -> None:
        lean.transition_up(up, make_maps(0, 4, (2, 3)), make_maps(1), workspace=workspace).sum().backward()

    for _ in range(3):
        step()
    assert workspace.recordings.counts["repeated"] == 2
    up.norm.running_mean = up.skip_norm.running_mean
    with pytest.raises(ValueError, match="shares running statistics"):
        step()


def test_other_parameters_of_the_same_sizes(device: EmulatedCuda) -> None:
    """A norm that has beta instead of gamma."""

    def scenario(steps: Steps) -> None:
        norm = steps.module.norm
        gamma, norm.bias = norm.weight, None
        for _ in range(3):
            steps()
        norm.weight, norm.bias = None, gamma
        for _ in range(3):
            steps()

    assert compare(device, scenario)["repeated"] == 4


def test_buffers_without_versions(device: EmulatedCuda) -> None:
    """Those that were made in inference mode."""

    def scenario(steps: Steps) -> None:
        norm = steps.module.eval().norm
        with torch.inference_mode():
            norm.running_mean, norm.running_var = norm.running_mean.clone(), norm.running_var.clone()
        for step in range(3):
            with torch.no_grad():
                steps.results[f"{step}"] = steps.forward(make_maps(step))

    assert compare(device, scenario)["repeated"] == 1


def test_weight_without_memory(device: EmulatedCuda) -> None:
    """Refused, as in an interpreted step: a kernel would read where there is nothing."""
    steps = Steps()
    for _ in range(3):
        steps()
    steps.module.conv.weight.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="weight has no memory"):
        steps()
