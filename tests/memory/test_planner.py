"""Estimates are what steps take; plans are the fastest ones that fit."""

import itertools
import random
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from support.ladder_models import CLASSES, make_images, make_labels, make_model, training_loss

from ladderseg_fast import LadderDenseNet, LadderResNet, create_model, memory
from ladderseg_fast.lean import MemoryPlan, SectionPlan
from ladderseg_fast.memory.choices import Choices, Option, whole_plans
from ladderseg_fast.memory.cost_model import Rates
from ladderseg_fast.memory.planner import _TOLERANCE
from ladderseg_fast.memory.search import RESOLUTION, fastest
from ladderseg_fast.memory.symbolic import StepShape, on_meta, trace
from ladderseg_fast.nn import RESNETS

SMALL = (2, 3, 131, 129)
#: What takes most here are the maps, as in real steps.
LARGE = (2, 3, 1024, 2048)
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


@lru_cache
def choices_of(whole: int, name: str = "tiny") -> Choices:
    shape = StepShape(LARGE[0], *LARGE[2:], torch.float32, torch.device("cpu"))
    model = make_model(dtype=torch.float32) if name == "tiny" else LadderResNet(CLASSES, backbone=name)
    model = on_meta(model, torch.float32)
    return Choices(model, shape, whole_plans(shape)[whole], Rates.default("cpu", 2))


def some_combination(choices: Choices, chance: random.Random) -> tuple[frozenset[str], dict[str, Option]]:
    """Skips that are kept, and an option that is possible with them for each section."""
    kept = chance.choice(list(choices.skip_sets()))
    possible = {
        name: [o for o in each if not o.plan.recompute or name in kept or not choices.has_skip(name)]
        for name, each in choices.options.items()
    }
    return kept, {name: chance.choice(each) for name, each in possible.items()}


def most_in_use(choices: Choices, kept: frozenset[str], options: dict[str, Option]) -> int:
    """As docs/memory.md has it."""
    added = most = 0
    for option in options.values():
        most = max(most, added + option.peak)
        added += option.kept
    return max(most, added + choices.rest_peak(kept))


def seconds(choices: Choices, kept: frozenset[str], options: dict[str, Option]) -> float:
    return choices.seconds_besides(kept) + sum(option.seconds for option in options.values())


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_estimated_workspace_is_what_a_step_takes(plan: MemoryPlan) -> None:
    model = make_model(dtype=torch.float32)
    estimate = memory.estimate(model, SMALL, plan)
    model.memory_plan = plan
    images, labels = make_images(2, *SMALL[2:], dtype=torch.float32), make_labels(2, *SMALL[2:])
    for _ in range(3):
        training_loss(model, images, labels).backward()
    assert model._workspace.arena_size == estimate.workspace
    assert estimate.peak == sum(estimate.parts.values())


RESIDUAL_PLANS = {
    "default": MemoryPlan(),
    "everything kept": MemoryPlan(sections={f"layer{i}": SectionPlan(1, keep_skip=True) for i in (1, 2, 3)}),
    "made again": MemoryPlan(
        sections={name: SectionPlan(None, recompute=True, keep_skip=True) for name in ("layer1", "layer3", "layer4a")}
    ),
    "in strips": MemoryPlan(1 << 14, sections={"layer2": SectionPlan(None, 1 << 15)}),
}


@pytest.mark.parametrize("plan", RESIDUAL_PLANS.values(), ids=RESIDUAL_PLANS)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_estimated_workspace_of_a_resnet(backbone: str, plan: MemoryPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESNETS, "resnet50", replace(RESNETS["resnet50"], units=(1, 1, 1, 2)))
    model = LadderResNet(CLASSES, backbone=backbone)
    estimate = memory.estimate(model, SMALL, plan)
    model.memory_plan = plan
    for _ in range(3):
        loss = training_loss(model, make_images(2, *SMALL[2:], dtype=torch.float32), make_labels(2, *SMALL[2:]))
        loss.backward()
    assert model._workspace.arena_size == estimate.workspace


def test_nothing_is_allocated(tiny: LadderDenseNet) -> None:
    """More than any machine has is estimated like anything else, and the model is left alone."""
    parameters = {name: parameter.clone() for name, parameter in tiny.state_dict().items()}
    estimate = memory.estimate(tiny, (2, 3, 1 << 16, 1 << 17), MemoryPlan(1 << 40, 1 << 40))
    assert estimate.peak > 10**12
    assert all(torch.equal(parameter, parameters[name]) for name, parameter in tiny.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_parts(tiny: LadderDenseNet) -> None:
    parts = memory.estimate(tiny, SMALL, optimizer="none").parts
    assert parts["gradients"] == sum(4 * parameter.numel() for parameter in tiny.parameters())
    assert parts["images and labels"] == 2 * 131 * 129 * (3 * 4 + 1)
    assert parts["optimizer"] == 0
    adam = memory.estimate(tiny, SMALL, optimizer="adam").parts["optimizer"]
    assert adam >= 2 * parts["gradients"]
    assert parts["kept: db1"] >= 2 * 32 * 32 * 96 * 4  # its buffer: 64 channels and one layer at 1/4


@pytest.mark.parametrize(
    ("model", "whole", "combinations"), [*(("tiny", whole, 6) for whole in range(4)), ("resnet18", 1, 3)]
)
def test_memory_and_time_are_additive(model: str, whole: int, combinations: int) -> None:
    """What the options say of any combination is exactly what a step with it takes."""
    choices, chance = choices_of(whole, model), random.Random(whole)
    for _ in range(combinations):
        kept, options = some_combination(choices, chance)
        traced = trace(choices._model, choices._shape, choices.plan(options, kept), whole=False)
        assert most_in_use(choices, kept, options) == max(moment.peak for moment in traced.moments)
        predicted = choices.rates.step_seconds(traced.costs, choices.whole)
        assert seconds(choices, kept, options) == pytest.approx(predicted, rel=1e-9)


def test_search_is_exhaustive() -> None:
    """Dynamic programming finds what trying all combinations finds."""
    choices = choices_of(1)
    rest = choices.rest_peak(frozenset())
    options = {name: each[::2] for name, each in choices.options.items()}
    everything = []
    for combination in itertools.product(*options.values()):
        chosen = dict(zip(options, combination))
        everything.append((most_in_use(choices, frozenset(), chosen), sum(o.seconds for o in combination)))
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
        assert near.seconds <= min(fitting) + len(options) * RESOLUTION * choices.least_seconds


def test_no_plan_that_fits_is_faster(tiny: LadderDenseNet) -> None:
    """By more than the percent that the planner promises, of many, of all kinds."""
    planner = memory.planner_for(tiny, LARGE, rates=Rates.default("cpu", 2))
    besides = planner.fastest.peak - planner.fastest.workspace
    chance = random.Random(1)
    others = []
    for whole, _ in itertools.product(range(4), range(500)):
        choices = choices_of(whole)
        kept, options = some_combination(choices, chance)
        others.append((most_in_use(choices, kept, options) + besides, seconds(choices, kept, options)))
    least, most = planner.smallest.peak, planner.fastest.peak
    for share in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7):
        budget = round(least + share * (most - least))
        planned = planner.plan(budget)
        assert planned.estimate.peak <= budget
        assert planned.gap <= 0.01
        fitting = [seconds for peak, seconds in others if peak <= budget]
        assert planned.estimate.seconds <= 1.01 * min(fitting, default=float("inf"))
        assert fitting or share == 0.0


def test_more_memory_is_never_slower(tiny: LadderDenseNet) -> None:
    planner = memory.planner_for(tiny, SMALL)
    least, most = planner.smallest.peak, planner.fastest.peak
    assert least < most
    before = float("inf")
    for budget in (least, *(least + (most - least) * i // 5 for i in range(1, 5)), most):
        planned = planner.plan(budget)
        assert planned.estimate.peak <= budget
        assert planned.estimate.seconds <= before * (1.0 + 3.0 * _TOLERANCE)
        before = planned.estimate.seconds
    assert planner.plan(10 * most).estimate == planner.fastest


def test_a_resnet_that_recomputes_nothing() -> None:
    """Not even outputs of its units."""
    planner = memory.planner_for("ladder_resnet50", (2, 3, 256, 256))
    assert planner.fastest.seconds == pytest.approx(planner._choices_of(0).least_seconds, rel=1e-9)


def test_small_strips_of_a_resnet_take_no_more_memory() -> None:
    """A backward that works strip by strip has one matrix of sums, however many strips there are."""
    shape = 8, 3, 512, 1024
    plans = MemoryPlan(1 << 23), MemoryPlan(1 << 20)
    few, many = (memory.estimate("resnet50_32x", shape, plan, optimizer="none") for plan in plans)
    assert many.parts["scores, loss, vectors"] <= few.parts["scores, loss, vectors"]


def test_budget_that_cannot_be_met(tiny: LadderDenseNet) -> None:
    with pytest.raises(memory.BudgetError, match="smallest takes.*; of 1 x 131x129") as caught:
        memory.plan(tiny, SMALL, budget="20MB")
    assert memory.plan(tiny, SMALL, budget=caught.value.smallest).estimate.peak <= caught.value.smallest


def test_largest(tiny: LadderDenseNet) -> None:
    budget = memory.planner_for(tiny, (3, 3, 128, 128)).smallest.peak
    assert memory.largest_batch(tiny, (128, 128), budget=budget) == 3
    assert memory.largest_batch(tiny, (128, 128), budget="1MB") == 0
    assert memory.largest_size(tiny, (64, 64), batch=3, budget=budget) == (128, 128)
    assert memory.plan(tiny, (3, 3, 128, 128), budget=budget).estimate.peak <= budget
    with pytest.raises(memory.BudgetError):
        memory.largest_size(tiny, (64, 64), budget="1MB")


@pytest.mark.real_use
def test_largest_where_batch_norm_cannot_train_on_one(tiny: LadderDenseNet) -> None:
    """An image of 64x64 has one pixel at 1/64: a single value per channel in a batch of one."""
    assert memory.least_batch(tiny, (64, 64)) == 2
    assert memory.least_batch(tiny, (64, 128)) == 1
    budget = memory.planner_for(tiny, (3, 3, 64, 64)).smallest.peak
    assert memory.largest_batch(tiny, (64, 64), budget=budget) == 3
    assert memory.largest_batch(tiny, (64, 64), budget="1MB") == 0
    budget = memory.planner_for(tiny, (1, 3, 128, 128)).smallest.peak
    assert memory.largest_size(tiny, (64, 64), batch=1, budget=budget) == (128, 128)
    tiny.frozen_bn = True
    tiny.train()
    assert memory.least_batch(tiny, (64, 64)) == 1


@pytest.mark.real_use
def test_sizes_beyond_all_memory(tiny: LadderDenseNet) -> None:
    with pytest.raises(ValueError, match="2\\^40 pixels"):
        memory.estimate(tiny, (1, 3, 1 << 20, 1 << 21))
    for size in ("9" * 400, "8388608TiB", 10**19):
        with pytest.raises(ValueError, match="below 8 EiB"):
            memory.parse_bytes(size)
    assert memory.parse_bytes("8388607TiB") == 8388607 << 40


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
    assert planner.smallest.peak < planner.fastest.peak


def test_16_bit_on_cuda(tiny: LadderDenseNet) -> None:
    half = memory.estimate(tiny, (2, 3, 256, 256), dtype=torch.float16, device="cuda")
    single = memory.estimate(tiny, (2, 3, 256, 256), device="cuda")
    assert 0.4 < half.workspace / single.workspace < 0.6
    assert half.parts["parameters and buffers"] == single.parts["parameters and buffers"]
    with pytest.raises(TypeError, match="float16"):
        memory.estimate(tiny, SMALL, dtype=torch.float16)


def test_arguments(tiny: LadderDenseNet) -> None:
    for wrong in ({"input_shape": (2, 3, 64)}, {"input_shape": (2, 4, 64, 64)}, {"input_shape": (2, 3, 32, 64)}):
        with pytest.raises(ValueError, match="input_shape"):
            memory.estimate(tiny, **wrong)
    with pytest.raises(ValueError, match="optimizer"):
        memory.estimate(tiny, SMALL, optimizer="lbfgs")
    with pytest.raises(ValueError, match="recompute"):
        SectionPlan(recompute=True)
    with pytest.raises(ValueError, match="keep_outputs_from must be None"):
        SectionPlan(recompute=True, keep_skip=True, keep_outputs_from=64)
    with pytest.raises(ValueError, match="bottleneck_bytes"):
        SectionPlan(bottleneck_bytes=0)
    pooled = SectionPlan(recompute=True, keep_skip=True)
    with pytest.raises(ValueError, match="db4b"):
        memory.estimate(tiny, SMALL, MemoryPlan(sections={"db4b": pooled}))


def test_frozen_parts_have_no_gradients(tiny: LadderDenseNet) -> None:
    model = make_model(dtype=torch.float32)
    model.features.requires_grad_(False)
    assert memory.estimate(model, SMALL).peak < memory.estimate(tiny, SMALL).peak


def test_frozen_batch_norm(tiny: LadderDenseNet) -> None:
    """As in fine-tuning: bottlenecks need not wait for statistics then."""
    tiny.frozen_bn = True
    tiny.train()
    assert memory.plan(tiny, SMALL, budget="1GB").estimate.peak < 1e9


def test_by_name() -> None:
    named = memory.estimate("densenet121", (2, 3, 64, 128), num_classes=CLASSES)
    assert named == memory.estimate(create_model("ladder_densenet121", CLASSES), (2, 3, 64, 128))


def test_batch_norms_that_share_a_single_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process may have one value per channel, if all of them together have more."""
    model = make_model(dtype=torch.float32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        memory.estimate(model, (1, 3, 64, 64))
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model, object())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    assert memory.estimate(synchronised, (1, 3, 64, 64)).peak > 0
