"""Predictions for each device of a model in parts, and the cuts and plans that balance them."""

import itertools
from pathlib import Path

import pytest
import torch
from support.ladder_models import CLASSES, make_images, make_labels, make_model

from ladderseg_fast import LadderDenseNet, LadderLoss, memory
from ladderseg_fast.lean import MemoryPlan
from ladderseg_fast.memory import parts_planner

SMALL = 2, 3, 131, 129
LARGE = 2, 3, 1024, 2048


def planner(model: LadderDenseNet | str, shape: tuple[int, ...] = SMALL, *cuts: str) -> memory.PartsPlanner:
    return memory.parts_planner_for(model, shape, len(cuts) + 1, cuts, num_classes=CLASSES)


@pytest.mark.parametrize(("cuts", "mode"), [(("db2",), "training"), (("db1", "db4b", "up2"), "half frozen")])
def test_maps_take_what_is_predicted(cuts: tuple[str, ...], mode: str) -> None:
    """To the byte, on every device."""
    model = make_model(dtype=torch.float32)
    if mode == "half frozen":
        model.features.requires_grad_(False)
    planned = planner(model, SMALL, *cuts).with_plan(MemoryPlan())
    model.place(["cpu"] * (len(cuts) + 1), cuts)
    images, labels = make_images(2, *SMALL[2:], dtype=torch.float32), make_labels(2, *SMALL[2:])
    for _ in range(2):
        LadderLoss()(model(images), labels).backward()
    assert model.placement is not None
    workspaces = model.placement.workspaces
    assert [workspace.arena_size for workspace in workspaces] == [each.workspace for each in planned.estimates]


def test_a_part_of_all_sections_is_the_model() -> None:
    model = make_model(dtype=torch.float32)
    whole = memory.estimate(model, SMALL, MemoryPlan())
    (part,) = planner(model).with_plan(MemoryPlan()).estimates
    assert part.parts == whole.parts and part.seconds == pytest.approx(whole.seconds)


def test_parts_hold_the_model_together() -> None:
    """Each parameter once; images where it begins, labels where it ends; and the seconds of the whole step."""
    model = make_model(dtype=torch.float32)
    whole = memory.estimate(model, SMALL, MemoryPlan())
    first, second = planner(model, SMALL, "db3").with_plan(MemoryPlan()).estimates
    for name in ("parameters and buffers", "gradients", "optimizer", "images and labels"):
        assert first.parts[name] + second.parts[name] == pytest.approx(whole.parts[name], abs=1)
    assert first.parts["images and labels"] > second.parts["images and labels"] > 0
    assert first.seconds + second.seconds == pytest.approx(whole.seconds, rel=0.1)
    assert max(first.peak, second.peak) < whole.peak


def test_the_cuts_balance_the_peaks() -> None:
    plan, devices = MemoryPlan(), 3
    planner = memory.parts_planner_for(make_model(dtype=torch.float32), LARGE, devices)
    found, end = planner.with_plan(plan), len(planner.steps.sections) - 1
    peaks = {}
    for lasts in itertools.combinations(range(end), devices - 1):
        parts = zip((0, *(last + 1 for last in lasts)), (*lasts, end))
        cuts = tuple(planner.steps.sections[last] for last in lasts)
        peaks[cuts] = max(planner.steps.estimate(plan, first, last).peak for first, last in parts)
    assert found.peak == peaks[found.cuts] == min(peaks.values())


def test_a_budget_is_that_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_planner, "_PLANS", 3)
    planner = memory.parts_planner_for(make_model(dtype=torch.float32), LARGE, 2)
    assert planner.plan(planner.fastest.peak) == planner.fastest
    budget = (planner.fastest.peak + planner.with_plan(planner.whole.smallest.plan).peak) // 2
    found = planner.plan(budget)
    assert max(each.peak for each in found.estimates) <= budget
    assert found.seconds > planner.fastest.seconds
    with pytest.raises(memory.BudgetError, match="on 2 devices fits into 100.0 MB on each: the smallest takes .* MB"):
        planner.plan(100_000_000)


def test_as_many_devices_as_sections_at_most() -> None:
    with pytest.raises(ValueError, match="devices must be 1 to 11, a section for each, got 12"):
        memory.parts_planner_for("densenet121", LARGE, 12)


@pytest.mark.parametrize("backbone", ["densenet121", pytest.param("densenet169", marks=pytest.mark.slow)])
def test_the_table_of_the_documents(backbone: str) -> None:
    """docs/distributed.md says what the planner predicts."""
    text = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
    planner = memory.parts_planner_for(backbone, LARGE, 2, device="cuda")
    default = MemoryPlan.default(torch.device("cuda"))
    for what, planned in (("", planner.with_plan(default)), (", nothing recomputed", planner.fastest)):
        whole = planner.whole.step.estimate(planned.plan)
        sizes = [memory.format_bytes(each.peak) for each in (*planned.estimates, whole)]
        row = [f"LDN-{backbone[-3:]}{what}", f"`{planned.cuts[0]}`", *sizes]
        assert f"| {' | '.join(row)} |" in text
