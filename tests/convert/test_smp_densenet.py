"""DenseNet encoders of segmentation_models_pytorch, converted."""

from typing import Any

import pytest
from support import torchvision_networks
from support.converted_equals_plain import assert_converted_equals_plain
from support.lean_equals_plain import MODES
from support.other_densenets import smp_densenet

from ladderseg_fast import convert

pytestmark = pytest.mark.real_use


@pytest.mark.parametrize("mode", MODES)
def test_converted_equals_plain(mode: str) -> None:
    assert_converted_equals_plain(smp_densenet(), mode, (2, 3, 64, 96), (1, 3, 75, 83))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_less_depth(depth: int) -> None:
    """The last map is that of a transition's ReLU, whose convolution does not run."""
    assert_converted_equals_plain(smp_densenet(depth), "train", (2, 3, 64, 64))


def test_report() -> None:
    report = convert(smp_densenet())
    assert report.converted == {"DenseNetEncoder": "pooling, 4 dense blocks, 3 transitions"} or report.converted == {
        "": "pooling, 4 dense blocks, 3 transitions"
    }
    assert report.left == {f"features.{name}": "torch runs it" for name in ("conv0", "norm0", "relu0", "norm5")}


EDITS: dict[str, Any] = {
    "a hook inside a block": "features.denseblock2.denselayer1.conv1",
    "a hook on a block": "features.denseblock2",
    "a hook inside a transition": "features.transition2.conv",
    "a hook on the first ReLU": "features.relu0",
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_part_is_called(edit: str) -> None:
    model = smp_densenet()
    seen = []
    model.get_submodule(EDITS[edit]).register_forward_hook(lambda *_: seen.append(1))
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))
    assert len(seen) >= 2
    report = convert(model)
    assert "3 dense blocks" in report.converted[""] or "2 transitions" in report.converted[""] or "pool" in str(report)


def test_unet() -> None:
    models = torchvision_networks.segmentation_models()
    model = models.Unet("densenet121", encoder_weights=None, decoder_channels=(16, 8, 8, 8, 8))
    report = convert(model, dry_run=True)
    assert list(report.converted) == ["encoder"]
    assert_converted_equals_plain(model, "train", (1, 3, 64, 64))
