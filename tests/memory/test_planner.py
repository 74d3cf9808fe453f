"""Estimates are what steps take; plans are the fastest ones that fit."""

import itertools
import random

import pytest
import torch
from ladder_models import CLASSES, make_images, make_labels, make_model, training_loss

from ladderseg_fast import LadderDenseNet, create_model, memory
from ladderseg_fast.lean import MemoryPlan, SectionPlan
from ladderseg_fast.memory.choices import Choices, whole_plans
from ladderseg_fast.memory.search import fastest
from ladderseg_fast.memory.symbolic import StepShape, on_meta, trace
from ladderseg_fast.memory.work import Rates

SHAPE = (2, 3, 131, 129)
SECTIONS = ("db1", "db2", "db3", "db4a", "db4b", "context")

#: Plans of every kind.
PLANS = {
    "default": MemoryPlan(),
    "nothing kept": MemoryPlan(keep_bottlenecks_from=None),
    "everything kept": MemoryPlan(sections={name: SectionPlan(1, keep_skip=True) for name in SECTIONS}),
    "close pixels": MemoryPlan(1 << 18, 1 << 18, spread=False),
    "recomputed": MemoryPlan(
        sections={name: SectionPlan(100, recompute=True, keep_skip=True) for name in ("db1", "db3")}
    ),
    "in strips": MemoryPlan(
        sections={"db1": SectionPlan(None, 1 << 18), "db2": SectionPlan(None, 1 << 17, recompute=True, keep_skip=True)}
    ),
}


@pytest.fixture
def tiny() -> LadderDenseNet:
    return make_model(dtype=torch.float32)


def choices_of(model: LadderDenseNet, whole: int = 1) -> Choices:
    shape = StepShape(SHAPE[0], *SHAPE[2:], torch.float32, torch.device("cpu"))
    return Choices(on_meta(model, torch.float32), shape, whole_plans(shape)[whole], Rates.default("cpu", 2))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_estimated_workspace_is_what_a_step_takes(plan: MemoryPlan) -> None:
    model = make_model(dtype=torch.float32)
    estimate = memory.estimate(model, SHAPE, plan)
    model.memory_plan = plan
    images, labels = make_images(2, *SHAPE[2:], dtype=torch.float32), make_labels(2, *SHAPE[2:])
    for _ in range(3):
        training_loss(model, images, labels).backward()
    assert model._workspace.planned == estimate.workspace
    assert estimate.peak == sum(estimate.parts.values())


def test_nothing_is_allocated(tiny: LadderDenseNet) -> None:
    """A terabyte of maps is estimated like anything else, and the model is left alone."""
    parameters = {name: parameter.clone() for name, parameter in tiny.state_dict().items()}
    estimate = memory.estimate(tiny, (200, 3, 8192, 8192))
    assert estimate.peak > 10**12
    assert all(torch.equal(parameter, parameters[name]) for name, parameter in tiny.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_parts(tiny: LadderDenseNet) -> None:
    parts = memory.estimate(tiny, SHAPE, optimizer="none").parts
    assert parts["gradients"] == sum(4 * parameter.numel() for parameter in tiny.parameters())
    assert parts["images and labels"] == 2 * 131 * 129 * (3 * 4 + 1)
    assert parts["optimizer"] == 0
    adam = memory.estimate(tiny, SHAPE, optimizer="adam").parts["optimizer"]
    assert adam >= 2 * parts["gradients"]
    assert parts["kept: db1"] >= 2 * 32 * 32 * 96 * 4  # its buffer: 64 channels and one layer at 1/4


@pytest.mark.parametrize("whole", [0, 3])
def test_memory_and_time_are_additive(tiny: LadderDenseNet, whole: int) -> None:
    """What the options say of any combination is what a step with it takes."""
    choices = choices_of(tiny, whole)
    chance = random.Random(0)
    for _ in range(12):
        kept = frozenset(skip.name for skip in choices.skips if chance.random() < 0.5)
        options = {
            name: chance.choice([o for o in each if not o.plan.recompute or name in kept])
            for name, each in choices.options.items()
        }
        traced = trace(choices._model, choices._shape, choices.plan(options, kept))
        added, most = 0, 0
        for option in options.values():
            most = max(most, added + option.peak)
            added += option.kept
        most = max(most, added + choices.rest_peak(kept))
        actual = max(moment.peak for moment in traced.moments)
        assert actual <= most <= 1.25 * actual  # recomputing and keeping bottlenecks is bounded, all else exact
        if not any(option.plan.recompute for option in options.values()):
            assert most == actual
        saved = sum(skip.saved for skip in choices.skips if skip.name in kept)
        seconds = choices.seconds_besides - saved + sum(option.seconds for option in options.values())
        assert seconds == pytest.approx(choices.rates.step_seconds(traced.works, choices.whole), rel=1e-9)


def test_search_is_exhaustive(tiny: LadderDenseNet) -> None:
    """Dynamic programming finds what trying all combinations finds."""
    choices = choices_of(tiny)
    rest = choices.rest_peak(frozenset())
    options = {name: each[::2] for name, each in choices.options.items()}
    everything = []
    for combination in itertools.product(*options.values()):
        added, most = 0, 0
        for option in combination:
            most = max(most, added + option.peak)
            added += option.kept
        everything.append((max(most, added + rest), sum(option.seconds for option in combination)))
    needed = sorted(most for most, _ in everything)
    for limit in (needed[0] - 1, needed[0], *needed[:: len(needed) // 12], needed[-1]):
        fitting = [seconds for most, seconds in everything if most <= limit]
        found = fastest(options, limit, rest, 0.0)
        if not fitting:
            assert found is None
            continue
        assert found.seconds == pytest.approx(min(fitting), rel=1e-12)
        assert sum(option.seconds for option in found.options.values()) == pytest.approx(found.seconds)
        near = fastest(options, limit, rest, choices.least_seconds)
        assert near.seconds <= min(fitting) + 0.01 * choices.least_seconds


def test_more_memory_is_never_slower(tiny: LadderDenseNet) -> None:
    planner = memory.planner_for(tiny, SHAPE)
    least, most = planner.smallest().peak, planner.fastest().peak
    assert least < most
    before = float("inf")
    for budget in (least, *(least + (most - least) * i // 5 for i in range(1, 5)), most):
        planned = planner.plan(budget)
        assert planned.estimate.peak <= budget
        assert planned.gap <= 0.01 or budget == least
        assert planned.estimate.seconds <= before * 1.01
        before = planned.estimate.seconds
    assert planner.plan(10 * most).estimate == planner.fastest()


def test_budget_that_cannot_be_met(tiny: LadderDenseNet) -> None:
    with pytest.raises(memory.BudgetError, match="smallest takes.*; of 1 x 131x129") as caught:
        memory.plan(tiny, SHAPE, budget="20MB")
    assert memory.plan(tiny, SHAPE, budget=caught.value.smallest).estimate.peak <= caught.value.smallest


def test_largest(tiny: LadderDenseNet) -> None:
    budget = memory.planner_for(tiny, (3, 3, 128, 128)).about_smallest().peak
    assert memory.largest_batch(tiny, (128, 128), budget=budget) == 3
    assert memory.largest_batch(tiny, (128, 128), budget="1MB") == 0
    assert memory.largest_size(tiny, (64, 64), batch=3, budget=budget) == (128, 128)
    assert memory.plan(tiny, (3, 3, 128, 128), budget=budget).estimate.peak <= budget
    with pytest.raises(memory.BudgetError):
        memory.largest_size(tiny, (64, 64), budget="1MB")


@pytest.mark.parametrize(
    "name",
    [
        "ladder_resnet50",
        "densenet121_32x",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dilated_densenet121", "ladder_densenet169_split34", "ladder_densenet169_spp")
        ),
    ],
)
def test_other_models(name: str) -> None:
    """Every kind of network can be planned, with its most and its least memory."""
    planner = memory.planner_for(name, (2, 3, 256, 256))
    assert planner.smallest().peak < planner.fastest().peak


def test_16_bit_on_cuda(tiny: LadderDenseNet) -> None:
    half = memory.estimate(tiny, (2, 3, 256, 256), dtype=torch.float16, device="cuda")
    single = memory.estimate(tiny, (2, 3, 256, 256), device="cuda")
    assert 0.4 < half.workspace / single.workspace < 0.6
    assert half.parts["parameters and buffers"] == single.parts["parameters and buffers"]
    with pytest.raises(TypeError, match="float16"):
        memory.estimate(tiny, SHAPE, dtype=torch.float16)


def test_arguments(tiny: LadderDenseNet) -> None:
    for wrong in ({"input_shape": (2, 3, 64)}, {"input_shape": (2, 4, 64, 64)}, {"input_shape": (2, 3, 32, 64)}):
        with pytest.raises(ValueError, match="input_shape"):
            memory.estimate(tiny, **wrong)
    with pytest.raises(ValueError, match="optimizer"):
        memory.estimate(tiny, SHAPE, optimizer="lbfgs")
    with pytest.raises(ValueError, match="recompute"):
        SectionPlan(recompute=True)
    with pytest.raises(ValueError, match="bottleneck_bytes"):
        SectionPlan(bottleneck_bytes=0)
    pooled = SectionPlan(recompute=True, keep_skip=True)
    with pytest.raises(ValueError, match="db4b"):
        memory.estimate(tiny, SHAPE, MemoryPlan(sections={"db4b": pooled}))


def test_frozen_parts_have_no_gradients(tiny: LadderDenseNet) -> None:
    model = make_model(dtype=torch.float32)
    model.features.requires_grad_(False)
    assert memory.estimate(model, SHAPE).peak < memory.estimate(tiny, SHAPE).peak
    assert memory.plan(replace_norms(model), SHAPE, budget="1GB").estimate.peak < 1e9


def replace_norms(model: LadderDenseNet) -> LadderDenseNet:
    """With frozen batch norm, as in fine-tuning."""
    model.frozen_bn = True
    return model.train()


def test_by_name() -> None:
    named = memory.estimate("densenet121", (2, 3, 64, 128), num_classes=CLASSES)
    assert named == memory.estimate(create_model("ladder_densenet121", CLASSES), (2, 3, 64, 128))
