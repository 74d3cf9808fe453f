"""Sizes of memory, and models that have a budget."""

import copy
import pickle
import warnings

import pytest
import torch
from ladder_models import TINY, make_images, make_labels, make_model, training_loss
from lean_equals_plain import randomise

from ladderseg_fast import LadderDenseNet, LadderLoss, memory
from ladderseg_fast.lean import MemoryPlan


def budgeted(budget: object) -> LadderDenseNet:
    return randomise(LadderDenseNet(TINY, 5, memory=budget))


def step(model: LadderDenseNet, batch: int = 2) -> dict[str, torch.Tensor]:
    """The gradients of one step."""
    model.zero_grad()
    images, labels = make_images(batch, 131, 129, dtype=torch.float32), make_labels(batch, 131, 129)
    training_loss(model, images, labels).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 << 30), ("900MB", 900_000_000), ("1.5 gb", 1_500_000_000), (4096, 4096), ("12", 12), ("2k", None),
     ("GB", None), ("-1GB", None), ("0", None), ("lots", None)],
)
def test_parse_bytes(text: object, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValueError, match="memory"):
            memory.parse_bytes(text)
    else:
        assert memory.parse_bytes(text) == size


def test_a_budget_changes_nothing_but_memory() -> None:
    smallest = memory.planner_for(make_model(dtype=torch.float32), (2, 3, 131, 129)).smallest().peak
    model, lean = budgeted(smallest), budgeted("lean")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            gradients, expected = step(model), step(lean)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5 * expected[name].abs().max()), name
    assert model._workspace.planned <= lean._workspace.planned
    assert (model.memory, model.memory_budget) == ("lean", smallest)


def test_each_shape_has_its_plan() -> None:
    model = budgeted("1GiB")
    step(model), step(model), step(model, batch=3)
    with torch.no_grad():
        model(make_images(2, 131, 129, dtype=torch.float32))  # no backward follows: nothing to plan
    model.predict(make_images(1, 64, 64, dtype=torch.float32))
    assert len(model._budget_plans._planned) == 2


def test_unattainable_budget() -> None:
    with pytest.raises(memory.BudgetError, match="smallest"):
        step(budgeted("10MB"))


def test_a_wrong_prediction_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    model = budgeted("1GiB")
    step(model)
    (planned,) = model._budget_plans._planned.values()
    object.__setattr__(planned.estimate, "workspace", planned.estimate.workspace // 2)
    step(model)
    with pytest.warns(RuntimeWarning, match="more memory than planned"):
        step(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model)  # once


def test_memory_can_be_a_plan_or_set_later() -> None:
    plan = MemoryPlan(keep_bottlenecks_from=None)
    model = budgeted(plan)
    assert (model.memory, model.memory_plan, model.memory_budget) == ("lean", plan, None)
    model.memory = "2GiB"
    assert (model.memory, model.memory_budget) == ("lean", 2 << 30)
    step(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.memory_budget == 2 << 30
    model.memory = "plain"
    assert (model.memory, model.memory_budget) == ("plain", None)
    assert LadderLoss(memory="2GiB").memory == "lean"
    for wrong in ("fat", "8 apples", None, -1):
        with pytest.raises(ValueError, match="memory must be"):
            budgeted(wrong)
