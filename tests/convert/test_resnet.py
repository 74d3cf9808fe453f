"""torchvision's and timm's ResNets, and encoders of segmentation_models_pytorch on them, converted."""

import copy
from typing import Any

import pytest
import torch
from support import torchvision_networks
from support.converted_equals_plain import assert_converted_equals_plain, make_images
from support.lean_equals_plain import MODES
from torch import nn

from ladderseg_fast import convert, lean
from ladderseg_fast.convert.lean_module import LeanModule

pytestmark = pytest.mark.real_use


def torchvision_resnet(block: str = "Bottleneck", **options: Any) -> nn.Module:
    resnet = torchvision_networks.torchvision().models.resnet
    width = {"width_per_group": 8} if block == "Bottleneck" else {}
    return resnet.ResNet(getattr(resnet, block), [2, 1, 1, 1], **({"num_classes": 5} | width | options))


def timm_resnet(block: str = "Bottleneck", **options: Any) -> nn.Module:
    resnet = torchvision_networks.timm().models.resnet
    width = {"base_width": 8} if block == "Bottleneck" else {}
    return resnet.ResNet(getattr(resnet, block), (2, 1, 1, 1), **({"num_classes": 5} | width | options))


MAKERS = {"torchvision": torchvision_resnet, "timm": timm_resnet}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", ["Bottleneck", "BasicBlock"])
@pytest.mark.parametrize("library", MAKERS)
def test_converted_equals_plain(library: str, block: str, mode: str) -> None:
    assert_converted_equals_plain(MAKERS[library](block), mode, (2, 3, 64, 40), (1, 3, 51, 67))


@pytest.mark.parametrize("library", MAKERS)
def test_report(library: str) -> None:
    model = MAKERS[library]()
    report = convert(model)
    assert report.converted == {"": "stem, 4 residual layers"}
    assert report.left == {}
    convert.undo(model)
    assert not any(isinstance(module, LeanModule) for module in model.modules())


def test_dilation() -> None:
    model = torchvision_resnet(replace_stride_with_dilation=[False, True, True])
    assert convert(model, dry_run=True).converted == {"": "stem, 4 residual layers"}
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))


def test_groups_are_left_alone() -> None:
    report = convert(torchvision_resnet(groups=2))
    assert report.converted == {}
    assert report.left["layer2"] == "layer2.0.conv2 has groups=2, expected 1"


OTHERS = {
    "another stem": ({"stem_type": "deep", "stem_width": 32}, "4 residual layers"),
    "attention": ({"block_args": {"attn_layer": "se"}}, None),
    "an average in the shortcut": ({"avg_down": True}, None),
    "another activation": ({"act_layer": nn.SiLU}, None),
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_kinds_of_timm(other: str) -> None:
    options, expected = OTHERS[other]
    model = timm_resnet(**options)
    report = convert(model, dry_run=True)
    assert report.converted.get("") == expected
    assert report.left
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))


def test_hook_on_a_layer() -> None:
    """The layer is called, and is a program of its own."""
    seen = []
    model = torchvision_resnet()
    model.layer2.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    report = convert(model, dry_run=True)
    assert report.converted == {"": "stem, 3 residual layers", "layer2": "residual layer"}
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))
    assert seen == 2 * [(2, 512, 8, 8)]


def test_edited_unit_is_left_alone() -> None:
    model = torchvision_resnet()
    model.layer3[0].relu = nn.GELU()
    report = convert(model)
    assert report.left["layer3"] == "layer3.0.relu is a GELU, expected ReLU"
    assert report.left["layer4"] == "reads what layer3 gives, which may be negative"
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))
    convert(model)
    model.layer1[1].bn3.register_forward_hook(lambda *_: None)
    with pytest.raises(lean.UnsupportedModuleError, match="^ResNet.layer1.1.bn3 has a forward hook"):
        model(make_images(1, 3, 64, 64))


def test_repeated_unit_is_left_alone() -> None:
    """The plain layer runs it twice."""
    model = torchvision_resnet()
    model.layer1[1] = model.layer1[0] = model.layer1[1]
    report = convert(model)
    assert report.left["layer1"] == "layer1.1.conv1 is the same module as layer1.0.conv1"
    model = torchvision_resnet()
    convert(model)
    model.layer1[0] = model.layer1[1]
    with pytest.raises(lean.UnsupportedModuleError, match="^ResNet.layer1.1.conv1 is the same module as"):
        model(make_images(1, 3, 64, 64))


def test_layer_that_may_read_negative_values_is_left_alone() -> None:
    """A lean layer takes what a ReLU gives."""
    model = torchvision_resnet()
    model.relu = nn.SiLU()
    report = convert(model, dry_run=True)
    assert report.left["layer1"] == "reads what the stem gives, which may be negative"
    assert report.converted == {"": "3 residual layers"}
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))


def test_layer_behind_another_kind_of_layer_is_left_alone() -> None:
    """Whether that gives negative values is not known."""
    model = torchvision_resnet()
    model.layer2 = nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1))
    report = convert(model, dry_run=True)
    assert report.left["layer3"] == "reads what layer2 gives, which may be negative"
    assert report.converted == {"": "stem, 2 residual layers"}


def test_empty_input() -> None:
    plain = torchvision_resnet().double().eval()
    converted = copy.deepcopy(plain)
    convert(converted)
    x = make_images(0, 64, 8, 8)
    assert converted.layer1(x).shape == plain.layer1(x).shape


def test_negative_input_is_refused() -> None:
    model = torchvision_resnet().double()
    convert(model)
    with pytest.raises(ValueError, match="the input of layer1 must not be negative, like what a ReLU gives"):
        model.layer1(make_images(1, 64, 8, 8))


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_unet(encoder: str) -> None:
    models = torchvision_networks.segmentation_models()
    model = models.Unet(encoder, encoder_weights=None, decoder_channels=(16, 8, 8, 8, 8))
    report = convert(model, dry_run=True)
    assert report.converted == {f"encoder.layer{i}": "residual layer" for i in (1, 2, 3, 4)}
    assert_converted_equals_plain(model, "train", (1, 3, 64, 64))


def test_features_of_timm() -> None:
    model = timm_resnet().double().eval()
    images = make_images(1, 3, 64, 64)
    expected = model.forward_features(images)
    convert(model)
    torch.testing.assert_close(model.forward_features(images), expected, rtol=1e-10, atol=1e-10)
