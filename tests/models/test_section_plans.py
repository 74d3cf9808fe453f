"""Whatever a memory plan chooses for sections, a lean step computes what a plain one does."""

from collections.abc import Sequence

import pytest
import torch
from support.ladder_models import CLASSES, in_mode, make_images, make_narrow_model
from support.lean_equals_plain import MODES, assert_lean_equals_plain, randomise, set_mode
from torch import Tensor

from ladderseg_fast import LadderResNet, SegmentationModel
from ladderseg_fast.lean import MemoryPlan, SectionPlan

ALL = ("db1", "db2", "db3", "db4a", "db4b", "context")
#: Of those that no average pooling leads to, all but the deepest can be made again.
REPEATABLE = ("db1", "db2", "db3", "db4a")


def of(names: Sequence[str], *arguments: object, **options: object) -> dict[str, SectionPlan]:
    return {name: SectionPlan(*arguments, **options) for name in names}


PLANS = {
    "everything kept": of(ALL, 1, keep_skip=True),
    "nothing kept": of(ALL, None),
    "single rows": of(ALL, None, bottleneck_bytes=1),
    "strips": of(ALL, None, bottleneck_bytes=1 << 15),
    "made again": of(REPEATABLE, None, recompute=True, keep_skip=True),
    "made again, bottlenecks kept then": of(REPEATABLE, 1, recompute=True, keep_skip=True),
    "made again in strips": of(REPEATABLE, None, bottleneck_bytes=1 << 15, recompute=True, keep_skip=True),
    "some of each": of(["db1"], None, recompute=True, keep_skip=True)
    | of(["db2"], 24)
    | of(["db3"], 1, recompute=True, keep_skip=True)
    | of(["db4a"], None, bottleneck_bytes=1 << 12, keep_skip=True)
    | of(["context"], 1),
}


def planned(name: str, mode: str = "train") -> SegmentationModel:
    model = make_narrow_model()
    set_mode(model, mode)
    model.memory_plan = MemoryPlan(spread=name != "strips", sections=PLANS[name])
    return model


def check(model: SegmentationModel, steps: list[list[Tensor]]) -> None:
    assert_lean_equals_plain(model, in_mode("lean"), in_mode("plain"), steps, 1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PLANS)
def test_steps(name: str, mode: str) -> None:
    # The second step's maps lie where the workspace has planned.
    seeds = (0, 1) if mode == "train" else (0,)
    check(planned(name, mode), [[make_images(2, 131, 129, seed=seed)] for seed in seeds])


@pytest.mark.parametrize("name", PLANS)
def test_gradients_of_images(name: str) -> None:
    check(planned(name), [[make_images(2, 131, 129).requires_grad_()]])


@pytest.mark.parametrize("frozen", ["features", "features.denseblock2", "up3", "context"])
@pytest.mark.parametrize("name", ["made again, bottlenecks kept then", "some of each"])
def test_frozen_parts(name: str, frozen: str) -> None:
    model = planned(name)
    model.get_submodule(frozen).requires_grad_(False)
    check(model, [[make_images(2, 131, 129)]])


@pytest.mark.parametrize("name", PLANS)
def test_backward_can_be_repeated(name: str) -> None:
    """With retain_graph what has been made again is made again once more; without it all memory is free."""
    model = planned(name)
    output = model(make_images(2, 131, 129))
    loss = output.logits.sum() + output.aux.sum()
    loss.backward(retain_graph=True)
    first = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    loss.backward()
    for parameter, gradient in zip(model.parameters(), first):
        assert torch.equal(parameter.grad, gradient)
    model.release_workspace()
    assert model._workspace.resident == 0


def test_statistics_are_updated_once() -> None:
    """Making features again is no second forward pass."""
    model = planned("made again")
    model(make_images(2, 131, 129)).logits.sum().backward()
    counts = {int(value) for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {8}


LAYERS = ("layer1", "layer2", "layer3", "layer4a", "layer4b")


@pytest.mark.parametrize(
    "sections",
    [
        of(LAYERS, 1, keep_skip=True),
        of(LAYERS, None, bottleneck_bytes=1 << 14),
        of(LAYERS, None, recompute=True, keep_skip=True) | of(["layer2"], 1),
    ],
    ids=["everything kept", "strips", "made again"],
)
def test_residual_layers(sections: dict[str, SectionPlan]) -> None:
    model = randomise(LadderResNet(CLASSES, backbone="resnet18")).double()
    model.memory_plan = MemoryPlan(sections=sections)
    check(model, [[make_images(2, 65, 70)]])
