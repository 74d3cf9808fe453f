"""The first training step on a GPU takes one block of memory, of the size of later steps."""

import threading

import pytest
import torch
from emulator.emulation import emulated
from support.ladder_models import make_images, make_labels, make_narrow_model, training_loss
from torch import Tensor

from ladderseg_fast import SegmentationModel, memory
from ladderseg_fast.lean import MemoryPlan, workspace
from ladderseg_fast.ops.backend import using


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the buffers that workspaces make, but for those of symbolic runs."""
    sizes: list[int] = []

    def noted(size: int, device: torch.device) -> Tensor:
        if device.type != "meta":
            sizes.append(size)
        return torch.empty(size, dtype=torch.uint8, device=device)

    monkeypatch.setattr(workspace, "fresh_buffer", noted)
    return sizes


def step(model: SegmentationModel, batch: int = 2, size: tuple[int, int] = (64, 64)) -> dict[str, Tensor]:
    model.zero_grad()
    training_loss(model, make_images(batch, *size, dtype=torch.float32), make_labels(batch, *size)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("plan", [None, MemoryPlan(keep_bottlenecks_from=None)], ids=["default plan", "own plan"])
def test_one_buffer_from_the_first_step_on(buffers: list[int], plan: MemoryPlan | None) -> None:
    with using(emulated("sm_80")):
        model = make_narrow_model(dtype=torch.float32)
        model.memory_plan = plan
        first = step(model)
        assert len(buffers) == 1
        second = step(model)
        assert len(buffers) == 1 and model._workspace.resident == buffers[0]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_placed_is_what_the_step_takes() -> None:
    """The block is that of the steps after, which are placed by what a step has taken."""
    with using(emulated("sm_80")):
        model = make_narrow_model(dtype=torch.float32)
        plan = MemoryPlan.default(torch.device("cpu"))
        found = memory.placements(model, (2, 3, 64, 64), plan, torch.float32, torch.device("cpu"))
        step(model), step(model)
        recorded = model._workspace._placements
    assert {key: each.sizes for key, each in found.items()} == {key: each.sizes for key, each in recorded.items()}


def test_on_the_cpu_nothing_is_placed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "placements", lambda *arguments: pytest.fail("called"))
    step(make_narrow_model(dtype=torch.float32))


def test_only_the_first_training_step_is_placed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    placements = memory.placements

    def noted(model: SegmentationModel, shape: torch.Size, *rest: object) -> dict:
        shapes.append(tuple(shape))
        return placements(model, shape, *rest)

    monkeypatch.setattr(memory, "placements", noted)
    with using(emulated("sm_80")):
        model = make_narrow_model(dtype=torch.float32)
        model.predict(make_images(1, 64, 64, dtype=torch.float32))  # no backward follows
        assert shapes == []
        model.release_workspace()
        step(model), step(model), step(model, batch=3)
        assert shapes == [(2, 3, 64, 64)]
        model.release_workspace()
        step(model, batch=3)
        assert shapes == [(2, 3, 64, 64), (3, 3, 64, 64)]


def test_a_model_that_cannot_be_copied_trains() -> None:
    with using(emulated("sm_80")):
        model = make_narrow_model(dtype=torch.float32)
        expected = step(model)
        other = make_narrow_model(dtype=torch.float32)
        other.lock = threading.Lock()
        found = step(other)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_larger_block_replaces_a_smaller_one_without_lying_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever torch's allocator holds of the old block goes back to the device first."""
    events: list[str] = []
    make = workspace.fresh_buffer

    def fresh_buffer(size: int, device: torch.device) -> Tensor:
        events.append("new block")
        return make(size, device)

    monkeypatch.setattr(workspace, "fresh_buffer", fresh_buffer)
    monkeypatch.setattr(workspace, "give_back_freed", lambda device: events.append("gives back"))
    place = workspace.Workspace()
    cpu = torch.device("cpu")
    sizes = {"small": 4096, "large": 8192}
    one = workspace.Placement([1], [0], 1)
    place.expect({name: workspace.Placement(one.sizes, one.starts, size) for name, size in sizes.items()})
    place.begin("small", cpu)
    place.begin("large", cpu)
    place.begin("small", cpu)
    assert events == ["new block", "gives back", "new block"]
