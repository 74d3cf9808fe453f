"""An encoder of one's own: one class makes it a model that runs lean, is examined, planned for and recognised."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import torch
from support.ladder_models import CLASSES, make_images, make_labels
from support.lean_equals_plain import assert_lean_equals_plain, randomise
from torch import Tensor, nn

from ladderseg_fast import LadderLoss, SegmentationModel, lean, memory
from ladderseg_fast.lean.examination import Examination
from ladderseg_fast.lean.sections import transition_stage
from ladderseg_fast.lean.stages import CopyStage, DenseBlockStage, Stage, StemStage
from ladderseg_fast.models.design import Design
from ladderseg_fast.models.encoder import Encoder, Layout
from ladderseg_fast.models.weights.recognise import recognise
from ladderseg_fast.nn import DenseBlock, Features, Transition


class TwoBlocks(Features):
    """A stem and two dense blocks of one layer, at 1/4 and at 1/8."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.conv0 = nn.Conv2d(in_channels, 16, 7, stride=2, padding=3, bias=False)
        self.norm0 = nn.BatchNorm2d(16)
        self.relu0 = nn.ReLU()
        self.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        self.first = DenseBlock(16, 1, 8)
        self.between = Transition(24, 12)
        self.second = DenseBlock(12, 1, 8)
        self.channels = {"first": 24, "second": 20}
        self.stride = 8

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = self.first(self.pool0(self.relu0(self.norm0(self.conv0(images)))))
        return {"first": first, "second": self.second(self.between(first))}


@pytest.fixture
def encoder() -> Iterator[Encoder]:
    """One of a family that is known for the time of a test."""

    @dataclass(frozen=True)
    class Two(Encoder):
        features_class = TwoBlocks
        layout = Layout("conv0.weight", (), "")
        architecture = "two"

        @staticmethod
        def architectures() -> list[str]:
            return ["two"]

        @staticmethod
        def recognise(state: Mapping[str, Tensor]) -> str | None:
            return "two" if "between.conv.weight" in state else None

        def build(self, in_channels: int, split_blocks: tuple[int, ...], dilated: bool) -> TwoBlocks:
            return TwoBlocks(in_channels)

        def examine(self, look: Examination, path: str, features: nn.Module) -> None:
            look.itself(path, features, TwoBlocks)
            channels = look.stem(path, features, "conv0", "norm0", "relu0", "pool0")
            reads, first = look.section(f"{path}.first", features.first, DenseBlock)
            look.same(f"{path}.first", "reads", reads, channels, "are there")
            look.section(f"{path}.between", features.between, Transition)
            look.section(f"{path}.second", features.second, DenseBlock)

        def stages(self, features: nn.Module, skips: Mapping[str, Stage]) -> Iterator[Stage]:
            yield StemStage(features.conv0, features.norm0, "images", "first", 24)
            yield DenseBlockStage(features.first, "first")
            yield skips["first"]
            yield transition_stage(features.between, "first", "between")
            yield CopyStage("between", "second", 20)
            yield DenseBlockStage(features.second, "second")

    yield Two()
    Encoder.families.remove(Two)


def run(mode: str):
    def forward(model: SegmentationModel, images: Tensor) -> list[Tensor]:
        model.memory = mode
        return list(model(images))

    return forward


def test_a_model_on_it(encoder: Encoder) -> None:
    model = randomise(SegmentationModel(Design(encoder), CLASSES)).double()
    images = make_images(2, 65, 80).requires_grad_()
    assert_lean_equals_plain(model, run("lean"), run("plain"), [[images]])
    assert list(model.transitions_up) == ["first"]
    model.memory = "lean"
    model.features.first.denselayer1.relu1 = nn.SiLU()
    with pytest.raises(lean.UnsupportedModuleError, match=r"features.first.denselayer1.relu1 is a SiLU"):
        model(images)


def test_planned_and_recognised(encoder: Encoder) -> None:
    model = SegmentationModel(Design(encoder, width=32), CLASSES)
    planner = memory.planner_for(model, (2, 3, 128, 128))
    assert planner.smallest.peak < planner.fastest.peak
    model.memory = "1GiB"
    images, labels = make_images(2, 128, 128, torch.float32), make_labels(2, 128, 128)
    LadderLoss()(model(images), labels).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert recognise(model.features.state_dict()) == "two"
