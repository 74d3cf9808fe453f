"""Converted models with a memory budget."""

import copy

import pytest
import torch
from support.converted_equals_plain import make_images
from support.lean_equals_plain import randomise
from support.other_densenets import smp_densenet, torchvision_densenet
from torch import nn

from ladderseg_fast import convert, memory
from ladderseg_fast.convert.budget import PlannedPart

pytestmark = pytest.mark.real_use

SHAPE = (2, 3, 224, 256)


def planner(module: nn.Module) -> memory.Planner:
    return memory.planner_for(PlannedPart(module, 3), SHAPE)


@pytest.mark.parametrize("encoder", [False, True])
def test_steps_take_what_was_planned(encoder: bool) -> None:
    """With the least budget, and in the middle; the gradients are those of the plain model."""
    plain = randomise(smp_densenet() if encoder else torchvision_densenet().features)
    converted = copy.deepcopy(plain)
    convert(converted)
    images = make_images(*SHAPE, dtype=torch.float32)
    least, most = planner(converted).smallest.peak, planner(converted).fastest.peak
    assert least <= most

    def step(model: nn.Module) -> None:
        results = model(images)
        maps = [results] if torch.is_tensor(results) else results[1:]
        sum(each.square().mean() for each in maps).backward()

    step(plain)
    used = []
    for budget in (least, (least + most) // 2):
        convert(converted, memory=budget)
        for _ in range(2):
            converted.zero_grad()
            step(converted)
        state = converted.lean_state
        (kind,) = state.budget._kinds.values()
        (part,) = kind.parts
        assert part.estimate.peak <= budget
        assert state.workspace.resident <= part.estimate.workspace
        used.append(state.workspace.resident)
        for (name, one), other in zip(converted.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=2e-3, atol=2e-3, msg=name)
        state.workspace.release()
    if not encoder:  # a small encoder's maps for the decoder outweigh what can be recomputed
        assert used[0] < used[1]


def test_no_plan_fits() -> None:
    model = torchvision_densenet()
    convert(model, memory="1MB")
    with pytest.raises(memory.BudgetError, match="no plan for 2 x 64x64 in float32 fits into 1.0 MB"):
        model(make_images(2, 3, 64, 64, dtype=torch.float32))
    with torch.no_grad():  # nothing is planned without a backward pass
        model(make_images(2, 3, 64, 64, dtype=torch.float32))


def test_a_converted_part_is_not_planned_for_several_devices() -> None:
    model = torchvision_densenet()
    convert(model)
    with pytest.raises(TypeError, match="PlannedPart cannot be cut into parts"):
        memory.parts_planner_for(PlannedPart(model.features, 3), SHAPE, 2)


def test_copies_keep_the_budget() -> None:
    model = torchvision_densenet()
    convert(model, memory="300MB")
    assert copy.deepcopy(model).features.lean_state.budget.budget == 300_000_000
