"""Whole models on the emulated device: repeated steps and predictions equal interpreted ones, bit for bit."""

from collections.abc import Callable

import pytest
import torch
from emulator.emulation import emulated
from support.comparison import assert_same_bits
from support.ladder_models import CLASSES, TINY, make_images, make_labels, make_narrow_model
from support.lean_equals_plain import randomise
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss, LadderResNet
from ladderseg_fast.models.segmentation_model import SegmentationModel
from ladderseg_fast.ops.backend import using

SIZE = (2, 64, 64)


def results_of_steps(model: SegmentationModel, autocast: torch.dtype | None, images: int) -> dict[str, Tensor]:
    """Losses, scores, gradients, predictions and, at the end, the state of three steps of SGD."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    found = {}
    for step in range(3):
        x, labels = (
            make_images(images, *SIZE[1:], dtype=torch.float32, seed=step),
            make_labels(images, *SIZE[1:], seed=step),
        )
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            output = model(x)
            loss = LadderLoss()(output, labels)
        loss.backward()
        found |= {f"{step}: {name}": getattr(output, name).detach().clone() for name in ("logits", "aux")}
        found[f"{step}: loss"] = loss.detach()
        found |= {f"{step}: gradient of {name}": p.grad.clone() for name, p in model.named_parameters()}
        optimiser.step()
        found[f"{step}: labels"] = model.predict(x)
    return found | model.state_dict()


def narrow_ladder() -> SegmentationModel:
    return make_narrow_model(dtype=torch.float32)


def ladder() -> SegmentationModel:
    return LadderDenseNet(TINY, CLASSES)


def ladder_with_pyramid() -> SegmentationModel:
    return LadderDenseNet(TINY, CLASSES, context="pyramid")


def ladder_on_resnet() -> SegmentationModel:
    return LadderResNet(CLASSES, backbone="resnet18")


@pytest.mark.parametrize(
    ("make", "autocast"),
    [
        pytest.param(narrow_ladder, None),
        pytest.param(ladder, None, marks=pytest.mark.slow),
        pytest.param(ladder, torch.float16, marks=pytest.mark.slow),
        pytest.param(ladder_with_pyramid, None, marks=pytest.mark.slow),
        pytest.param(ladder_on_resnet, None, marks=pytest.mark.slow),
    ],
)
def test_repeated_steps_equal_interpreted_ones(
    make: Callable[[], SegmentationModel], autocast: torch.dtype | None
) -> None:
    device = emulated("sm_80")
    found = []
    with using(device):
        for repeats in (False, True):
            model = randomise(make())
            device.repeats_steps = repeats
            try:
                found.append(results_of_steps(model, autocast, SIZE[0]))
            finally:
                device.repeats_steps = True
    counts = model._workspace.recordings.counts
    assert not model._workspace.recordings.failures
    assert counts["repeated"] >= 3 and counts["recorded"] >= 3
    for name, tensor in found[0].items():
        assert_same_bits(found[1][name], tensor, name)
