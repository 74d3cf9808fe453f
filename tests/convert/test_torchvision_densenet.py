"""torchvision's DenseNets, converted."""

import pytest
import torch
from support.converted_equals_plain import assert_converted_equals_plain, make_images
from support.lean_equals_plain import MODES
from support.other_densenets import torchvision_densenet
from torch import nn

from ladderseg_fast import convert
from ladderseg_fast.convert.lean_module import LeanModule

pytestmark = pytest.mark.real_use


@pytest.mark.parametrize("mode", MODES)
def test_converted_equals_plain(mode: str) -> None:
    assert_converted_equals_plain(torchvision_densenet(), mode, (2, 3, 64, 96), (1, 3, 75, 83))


def test_float32() -> None:
    assert_converted_equals_plain(torchvision_densenet(), "train", (2, 3, 64, 64), dtype=torch.float32)


def test_report() -> None:
    model = torchvision_densenet()
    before = repr(model)
    assert convert(model, dry_run=True).dry_run
    assert repr(model) == before
    report = convert(model)
    assert report.converted == {"features": "stem, 4 dense blocks, 3 transitions"}
    assert report.left == {"features.norm5": "torch runs it"}
    assert "features.norm5  torch runs it" in str(report)
    assert isinstance(model.features, LeanModule)
    convert.undo(model)
    assert repr(model) == before
    assert not any(isinstance(module, LeanModule) or hasattr(module, "lean_state") for module in model.modules())


def test_hooks_on_blocks_fire() -> None:
    """A block with hooks is called, and is a program of its own."""
    outputs = {}
    for name, action in {"plain": lambda model: None, "converted": convert}.items():
        model = torchvision_densenet().double()
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        seen = outputs[name] = []
        for module in (model, model.features, model.features.denseblock2, model.features.norm5):
            # Copies, because the ReLU after the features works in place.
            module.register_forward_hook(
                lambda module, inputs, output, seen=seen: seen.extend([inputs[0].clone(), output.clone()])
            )
        action(model)
        model(make_images(2, 3, 64, 64)).square().sum().backward()
    assert len(outputs["plain"]) == 8
    for plain, lean_output in zip(outputs["plain"], outputs["converted"], strict=True):
        torch.testing.assert_close(lean_output, plain, rtol=1e-10, atol=1e-10)
