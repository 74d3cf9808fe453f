"""A model whose sections are on several devices computes what it computes on one, bit for bit.

torch has one CPU. Given twice, it stands for two devices: each part has its workspace, and features are copied.
"""

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from emulator.emulation import emulated
from support.comparison import assert_same_bits
from support.ladder_models import CLASSES, TINY, make_images, make_labels
from support.lean_equals_plain import randomise
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from ladderseg_fast import LadderDenseNet, LadderLoss, LadderResNet, memory
from ladderseg_fast.lean import MemoryPlan, SectionPlan, workspace
from ladderseg_fast.memory import parts_planner
from ladderseg_fast.models import DenseNet32x, DilatedDenseNet, placement
from ladderseg_fast.models.placement import DevicePlacement, move
from ladderseg_fast.models.programs import program_sections
from ladderseg_fast.models.segmentation_model import SegmentationModel
from ladderseg_fast.nn import RESNETS, BasicBlock
from ladderseg_fast.nn.resnet import ResNetShape
from ladderseg_fast.ops.backend import using

SIZE = 2, 67, 65

TINY_RESNET = ResNetShape(BasicBlock, (1, 1, 1, 2))

MODELS: dict[str, Callable[[], SegmentationModel]] = {
    "ladder": lambda: LadderDenseNet(TINY, CLASSES),
    "pyramid": lambda: LadderDenseNet(TINY, CLASSES, context="pyramid"),
    "no auxiliary head": lambda: LadderDenseNet(TINY, CLASSES, auxiliary=False),
    "32x": lambda: DenseNet32x(TINY, CLASSES),
    "dilated": lambda: DilatedDenseNet(TINY, CLASSES),
    "resnet": lambda: LadderResNet(CLASSES, backbone=TINY),
}


@pytest.fixture(autouse=True)
def tiny_resnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESNETS, TINY, TINY_RESNET)


def made(name: str, dtype: torch.dtype = torch.float32) -> SegmentationModel:
    return randomise(MODELS[name](), 0).to(dtype)


def one_step(model: SegmentationModel, seed: int = 0, size: tuple[int, int, int] = SIZE) -> dict[str, Tensor]:
    """Scores, loss and gradients of a step, and the state after it."""
    images = make_images(*size, dtype=next(model.parameters()).dtype, seed=seed).requires_grad_()
    model.zero_grad()
    output = model(images)
    loss = LadderLoss()(output, make_labels(*size, seed=seed))
    loss.backward()
    found = {"images": images.grad, "loss": loss.detach(), "logits": output.logits.detach()}
    if output.aux is not None:
        found["aux"] = output.aux.detach()
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: each.clone() for name, each in (found | model.state_dict()).items()}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_same_bits(actual[name], tensor, name)


def placed(model: SegmentationModel, *after: str) -> SegmentationModel:
    return copy.deepcopy(model).place(["cpu"] * (len(after) + 1), after)


@pytest.mark.parametrize("name", MODELS)
def test_every_section_on_a_device_of_its_own(name: str) -> None:
    """The second step's maps lie where the workspaces have planned."""
    model = made(name)
    cut = placed(model, *program_sections(model)[:-1])
    for seed in (0, 1):
        assert_same(one_step(cut, seed), one_step(model, seed))


@pytest.mark.parametrize("section", ["db2", "db4b"])
def test_two_devices(section: str) -> None:
    model = made("ladder")
    assert_same(one_step(placed(model, section)), one_step(model))


def in_mode(model: SegmentationModel, mode: str) -> SegmentationModel:
    if mode == "frozen":
        model.frozen_bn = True
    return model.train(mode != "evaluation")


PLANS = {
    "default": MemoryPlan(),
    "strips": MemoryPlan(1 << 16, 1 << 16, spread=False, keep_bottlenecks_from=None),
    "recomputed": MemoryPlan(
        sections={
            "db1": SectionPlan(None, recompute=True, keep_skip=True),
            "db3": SectionPlan(1, recompute=True, keep_skip=True),
            "db4a": SectionPlan(None, bottleneck_bytes=1 << 14, keep_skip=True),
            "context": SectionPlan(1),
        }
    ),
}


@pytest.mark.parametrize(
    ("plan", "mode"),
    [("strips", "training"), ("recomputed", "training"), ("recomputed", "frozen"), ("default", "evaluation")],
)
def test_plans_and_modes(plan: str, mode: str) -> None:
    model = in_mode(made("ladder", torch.float64), mode)
    model.memory_plan = PLANS[plan]
    assert_same(one_step(placed(model, "db2", "db4b")), one_step(model))


def test_predictions() -> None:
    model = made("ladder")
    cut = placed(model, "db3")
    for _ in range(2):
        assert torch.equal(
            cut.predict(make_images(*SIZE, dtype=torch.float32)), model.predict(make_images(*SIZE).float())
        )


def test_backward_twice() -> None:
    """Each time the same gradients are added; and a graph that is kept outlives the next step."""
    found = []
    for model in (made("ladder"), placed(made("ladder"), "db1", "db4a")):
        output = model(make_images(*SIZE, dtype=torch.float32))
        loss = LadderLoss()(output, make_labels(*SIZE))
        loss.backward(retain_graph=True)
        one_step(model, 1)
        loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert_same(found[1], found[0])


@pytest.mark.parametrize("head", ["logits", "aux"])
def test_parameters_that_no_gradient_reaches(head: str) -> None:
    """They have none; nor have those that need none, in one part or in all of a part."""
    found = []
    for model in (made("ladder"), placed(made("ladder"), "db2", "context")):
        model.features.conv0.requires_grad_(False)
        for name in ("norm0", "denseblock1", "transition1", "denseblock2", "transition2"):
            getattr(model.features, name).requires_grad_(False)
        for up in (model.up3, model.up4):
            up.skip_norm.requires_grad_(False)
            up.skip_conv.requires_grad_(False)
        getattr(model(make_images(*SIZE, dtype=torch.float32)), head).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert_same(found[1], found[0])
    assert found[0] and not any("denseblock2" in name for name in found[0])


def test_skip_connections_that_no_gradient_reaches() -> None:
    """The main head and the transitions-up are in one part with the auxiliary head; those before get no zeros."""
    found = []
    for model in (made("ladder"), placed(made("ladder"), "db2")):
        model(make_images(*SIZE, dtype=torch.float32)).aux.square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert_same(found[1], found[0])
    assert not any(name.startswith("up") for name in found[0])


def test_each_part_has_a_workspace() -> None:
    """Together they hold about what one holds: the parts do not use each other's memory."""
    model = made("ladder")
    cut = placed(model, "db2")
    for seed in (0, 1):
        one_step(model, seed)
        one_step(cut, seed)
    assert cut.placement is not None
    first, second = (workspace.resident for workspace in cut.placement.workspaces)
    assert 0 < first < model._workspace.resident and 0 < second < model._workspace.resident
    assert cut._workspace.resident == 0
    cut.release_workspace()
    assert [workspace.resident for workspace in cut.placement.workspaces] == [0, 0]


def test_names_of_cuts() -> None:
    model = made("ladder")
    for name, section in (
        ("denseblock2", "db2"),
        ("features.denseblock2", "db2"),
        ("db4a", "db4a"),
        ("denseblock4", "db4b"),
        ("context", "context"),
        ("up1", "up1"),
    ):
        cut = placed(model, name)
        assert cut.placement is not None and cut.placement.cuts == (section,)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("head", r"after must name one of db1 \(denseblock1\), db2 .* up4, got 'head'"),
        ("transition2", "got 'transition2'"),
        (["db1", "db2"], "one section less than there are devices, got 2 for 2 devices"),
        ((), "one section less than there are devices, got 0 for 2 devices"),
    ],
)
def test_other_names_are_refused(after: str | list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made("ladder").place(["cpu", "cpu"], after)


def test_cuts_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="in the order of the forward pass"):
        made("ladder").place(["cpu"] * 3, ["db2", "denseblock2"])


@pytest.mark.parametrize(("devices", "message"), [(["cpu", "cuda:99"], "cuda:99"), (["cpu", "meta"], "meta"), ([], "")])
def test_devices_that_do_not_exist(devices: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"device.*{message}"):
        made("ladder").place(devices, "db2")


def test_one_device_undoes() -> None:
    model = made("ladder")
    expected = one_step(copy.deepcopy(model))
    cut = placed(model, "db2")
    assert cut.place("cpu") is cut and cut.placement is None
    assert_same(one_step(cut), expected)
    assert cut._workspace.resident > 0


def test_copies_are_placed_too() -> None:
    model = placed(made("ladder"), "db2")
    one_step(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.placement == model.placement
        assert twin.placement.workspaces[0] is not model.placement.workspaces[0]
        assert_same(one_step(twin, 1), one_step(copy.deepcopy(model), 1))


def test_state_is_that_of_one_device(tmp_path: Path) -> None:
    model = made("ladder")
    cut = placed(made("ladder"), "db2")
    assert [*cut.state_dict()] == [*model.state_dict()]
    one_step(model)
    cut.load_state_dict(model.state_dict())
    assert_same(one_step(cut, 1), one_step(model, 1))
    cut.save_pretrained(tmp_path / "model.safetensors")
    assert_same(LadderDenseNet.from_pretrained(tmp_path / "model.safetensors").state_dict(), model.state_dict())


def test_casts_keep_the_placement() -> None:
    model = made("ladder")
    cut = placed(model, "db2").double()
    assert cut.placement is not None
    assert_same(one_step(cut), one_step(model.double()))


def test_moving_everything_to_one_device_ends_the_placement() -> None:
    """As on a machine with two GPUs after model.to("cuda:0")."""
    assert placed(made("ladder"), "db2").to("meta").placement is None


def test_parts_on_one_device_stay_where_all_is_moved_there() -> None:
    """Libraries move each model to the device that it is on already."""
    model = placed(made("ladder"), "db2")
    assert model.to("cpu").cpu().placement is not None


def test_what_is_moved_by_hand_is_named() -> None:
    model = placed(made("ladder"), "db2")
    model.features.denseblock3.denselayer1.norm1.to("meta")
    with pytest.raises(ValueError, match=r"features.denseblock3.denselayer1.norm1.weight is on meta.*place\(\) again"):
        model(make_images(*SIZE, dtype=torch.float32))


def test_images_on_another_device() -> None:
    model = placed(made("ladder"), "db2")
    with pytest.raises(ValueError, match="images must be on cpu"):
        model(make_images(*SIZE, dtype=torch.float32).to("meta"))


def test_plain_is_refused() -> None:
    model = placed(made("ladder"), "db2")
    model.memory = "plain"
    with pytest.raises(RuntimeError, match='only with memory="lean"'):
        model(make_images(*SIZE, dtype=torch.float32))


def test_shared_parameters() -> None:
    """Between devices they are refused; between stand-ins they lie in both."""
    model = made("ladder")
    model.up4.conv.weight = model.up1.conv.weight
    twin = copy.deepcopy(model)
    assert_same(one_step(placed(model, "up1")), one_step(twin))
    with pytest.raises(ValueError, match=r"up1.conv.weight is used in parts of the model on cpu and on meta"):
        move(model, DevicePlacement((torch.device("cpu"), torch.device("meta")), ("up1",), ()))


def test_shared_running_statistics() -> None:
    model = made("ladder")
    model.up4.norm.running_mean = model.up1.norm.running_mean
    with pytest.raises(ValueError, match=r"up1.norm.running_mean is used in parts of the model on cpu and on meta"):
        move(model, DevicePlacement((torch.device("cpu"), torch.device("meta")), ("up1",), ()))


def test_what_belongs_to_no_part_is_moved_too() -> None:
    model = made("ladder")
    model.scale = nn.Parameter(torch.ones(3))
    model.register_buffer("absent", None)
    parametrizations.weight_norm(model.head.conv)
    expected = one_step(copy.deepcopy(model))
    assert_same(one_step(placed(model, "db2")), expected)


def test_cuda_is_the_current_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert [str(placement._device(name)) for name in ("cuda", "cuda:0", "cuda:1")] == ["cuda:1", "cuda:0", "cuda:1"]
    with pytest.raises(ValueError, match="device cuda:2 is not available: torch finds 2 CUDA devices"):
        placement._device("cuda:2")


def test_a_budget_is_that_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is planned for these cuts; the first step's maps lie where the plan says."""
    monkeypatch.setattr(parts_planner, "_PLANS", 1)
    model = placed(made("ladder"), "db2")
    planner = memory.parts_planner_for(model, (2, 3, *SIZE[1:]), 2, ["db2"])
    model.memory = max(estimate.peak for estimate in planner.fastest.estimates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(4):
            one_step(model, seed)
    sizes = [workspace.arena_size for workspace in model.placement.workspaces]
    assert sizes == [estimate.workspace for estimate in planner.fastest.estimates]
    # What the workspaces have been told goes with their memory, and new ones know nothing yet.
    for anew in (model.release_workspace, lambda: model.place(["cpu", "cpu"], "db2")):
        anew()
        assert [workspace.arena_size for workspace in model.placement.workspaces] == [0, 0]
        one_step(model)
        assert sizes == [workspace.arena_size for workspace in model.placement.workspaces]
    old = weakref.ref(model.placement.workspaces[0])
    model.place("cpu")
    gc.collect()
    assert old() is None, "its memory is free"
    model.place(["cpu", "cpu"], "db2").memory = "1MB"
    with pytest.raises(memory.BudgetError, match="on 2 devices fits into 1.0 MB on each"):
        one_step(model)


def test_the_first_step_on_a_gpu_takes_one_block_per_device(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    model = placed(made("ladder"), "db2")

    def noted(size: int, device: torch.device) -> Tensor:
        if device.type == "meta":
            return torch.empty(size, dtype=torch.uint8, device=device)
        sizes.append(size)
        raise RuntimeError("enough")

    monkeypatch.setattr(workspace, "fresh_buffer", noted)
    with using(emulated("sm_80")):
        with pytest.raises(RuntimeError, match="enough"):
            model(make_images(*SIZE, dtype=torch.float32))
        plan = MemoryPlan.default(torch.device("cpu"))
        planner = memory.parts_planner_for(model, (2, 3, *SIZE[1:]), 2, ["db2"], device="cpu")
        assert sizes == [planner.with_plan(plan).estimates[0].workspace]
