"""A model with a budget: planned when it first meets images, the same numbers, and told when a plan was wrong."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from support.ladder_models import TINY, make_images, make_labels, make_model, training_loss
from support.lean_equals_plain import randomise

from ladderseg_fast import LadderDenseNet, LadderLoss, memory
from ladderseg_fast.lean import MemoryPlan
from ladderseg_fast.memory import process
from ladderseg_fast.models import memory_argument

SHAPE = (2, 3, 131, 129)


def budgeted(budget: object) -> LadderDenseNet:
    return randomise(LadderDenseNet(TINY, 5, memory=budget))


def step(model: LadderDenseNet, batch: int = 2) -> dict[str, torch.Tensor]:
    """The gradients of one step."""
    model.zero_grad()
    images, labels = make_images(batch, 131, 129, dtype=torch.float32), make_labels(batch, 131, 129)
    training_loss(model, images, labels).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.fixture
def no_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_argument, "_TOLERANCE_BYTES", 0)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("900MB", 900_000_000),
        ("1.5 gb", 1_500_000_000),
        (4096, 4096),
        ("12", 12),
        ("2k", None),
        ("GB", None),
        ("-1GB", None),
        ("0", None),
        ("lots", None),
    ],
)
def test_parse_bytes(text: object, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValueError, match="memory"):
            memory.parse_bytes(text)
    else:
        assert memory.parse_bytes(text) == size


def test_bytes_for_people() -> None:
    texts = [memory.format_bytes(size) for size in (1_500, 300_000_000, 25_550_000_000)]
    assert texts == ["1.5 kB", "300.0 MB", "25.55 GB"]


def test_a_budget_changes_nothing_but_memory() -> None:
    smallest = memory.planner_for(make_model(dtype=torch.float32), SHAPE).smallest.peak
    model, lean = budgeted(smallest), budgeted("lean")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            gradients, expected = step(model), step(lean)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5 * expected[name].abs().max()), name
    assert model._workspace.arena_size <= lean._workspace.arena_size
    assert (model.memory, model.memory_budget) == ("lean", smallest)


def test_each_shape_has_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    plan = memory.plan

    def noted(model: LadderDenseNet, shape: torch.Size, *rest: object) -> memory.PlannedStep:
        shapes.append(tuple(shape))
        return plan(model, shape, *rest)

    monkeypatch.setattr(memory, "plan", noted)
    model = budgeted("1GiB")
    step(model), step(model), step(model, batch=3)
    with torch.no_grad():
        model(make_images(2, 131, 129, dtype=torch.float32))  # no backward follows: nothing to plan
    model.predict(make_images(1, 64, 64, dtype=torch.float32))
    assert shapes == [(2, 3, 131, 129), (3, 3, 131, 129)]


def test_plans_of_the_latest_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training on images of ever new sizes does not grow for ever."""
    monkeypatch.setattr(memory_argument, "_MOST_KINDS", 2)
    model = make_model(memory="1GiB", dtype=torch.float32)
    assert model._budget_plans is not None
    for height in (64, 68, 64, 72):
        training_loss(model, make_images(2, height, 64, torch.float32), make_labels(2, height, 64)).backward()
    assert [key[0][2] for key in model._budget_plans._kinds] == [64, 72]  # type: ignore[index]


def test_unattainable_budget() -> None:
    with pytest.raises(memory.BudgetError, match="smallest"):
        step(budgeted("10MB"))


def test_feature_maps_larger_than_predicted_are_reported(monkeypatch: pytest.MonkeyPatch, no_tolerance: None) -> None:
    plan = memory.plan

    def wrong(*arguments: object) -> memory.PlannedStep:
        planned = plan(*arguments)
        object.__setattr__(planned.estimate, "workspace", planned.estimate.workspace // 2)
        return planned

    monkeypatch.setattr(memory, "plan", wrong)
    model = budgeted("1GiB")
    step(model), step(model)
    with pytest.warns(RuntimeWarning, match="its feature maps took .* at the peak, predicted were"):
        step(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model)  # once


@pytest.mark.parametrize("excess", [-1_000_000, 1_000_000])
def test_a_process_larger_than_predicted_is_reported(
    monkeypatch: pytest.MonkeyPatch, no_tolerance: None, excess: int
) -> None:
    monkeypatch.setattr(memory_argument, "_TOLERANCE_SHARE", 0.0)
    estimate = memory.plan(budgeted("lean"), SHAPE, budget="1GiB").estimate
    there = estimate.parts["parameters and buffers"] + estimate.parts["images and labels"]
    peaks = iter((10**9, 10**9 + estimate.peak - there + excess))
    monkeypatch.setattr(memory, "memory_in_use", lambda device: 10**9)
    monkeypatch.setattr(memory, "peak_memory", lambda device: next(peaks))
    model = budgeted("1GiB")
    step(model), step(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step(model)
    messages = [str(warning.message) for warning in caught]
    assert [("the process took" in message) for message in messages] == [True] * (excess > 0), messages


def test_memory_in_use_is_below_the_peak() -> None:
    device = torch.device("cpu")
    assert 10**7 < process.memory_in_use(device) <= process.peak_memory(device)


def test_memory_can_be_a_plan_or_set_later() -> None:
    plan = MemoryPlan(keep_bottlenecks_from=None)
    model = budgeted(plan)
    assert (model.memory, model.memory_plan, model.memory_budget) == ("lean", plan, None)
    model.memory = "2GiB"
    assert (model.memory, model.memory_budget) == ("lean", 2 << 30)
    step(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.memory_budget == 2 << 30
        step(twin)
    model.memory = "plain"
    assert (model.memory, model.memory_budget) == ("plain", None)
    for number in (8e9, np.int64(8_000_000_000)):
        model.memory = number
        assert model.memory_budget == 8_000_000_000
    assert LadderLoss(memory="2GiB").memory == "lean"
    for wrong in ("fat", "8 apples", None, -1):
        with pytest.raises(ValueError, match="memory must be"):
            budgeted(wrong)


def test_the_first_step_is_placed_as_predicted() -> None:
    smallest = memory.planner_for(make_model(dtype=torch.float32), SHAPE).smallest
    model = budgeted(smallest.peak)
    step(model)
    assert model._workspace.arena_size == model._workspace.resident
    assert model._workspace.resident <= smallest.workspace + 4096
    before = model._workspace._placements.copy()
    step(model)
    assert {key: placement.starts for key, placement in model._workspace._placements.items()} == {
        key: placement.starts for key, placement in before.items()
    }


@pytest.mark.real_use
def test_budget_error_where_batch_norm_could_not_train_on_less() -> None:
    model = budgeted("1MB")
    with pytest.raises(memory.BudgetError, match="no plan for 2 x 64x64 in float32 fits into 1.0 MB"):
        model(make_images(2, 64, 64, dtype=torch.float32))
