"""A model whose sections are on several devices computes what it computes on one, bit for bit.

torch has one CPU. Given twice, it stands for two devices: each part has its workspace, and features are copied.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from support.comparison import assert_same_bits
from support.ladder_models import CLASSES, TINY, make_images, make_labels
from support.lean_equals_plain import randomise
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss, LadderResNet
from ladderseg_fast.models import DenseNet32x, DilatedDenseNet
from ladderseg_fast.models.programs import program_sections
from ladderseg_fast.models.segmentation_model import SegmentationModel
from ladderseg_fast.nn import RESNETS, BasicBlock
from ladderseg_fast.nn.resnet import ResNetShape

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


@pytest.mark.parametrize("section", ["db1", "db2", "db3", "db4a", "db4b", "context", "up1", "up2", "up3", "up4"])
def test_two_devices(section: str) -> None:
    model = made("ladder")
    assert_same(one_step(placed(model, section)), one_step(model))


@pytest.mark.parametrize("section", ["layer1", "layer4a", "layer4b"])
def test_two_devices_of_a_resnet(section: str) -> None:
    """A layer's output is read on both sides."""
    model = made("resnet")
    assert_same(one_step(placed(model, section)), one_step(model))
