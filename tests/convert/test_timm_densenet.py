"""timm's DenseNets, converted."""

import copy

import pytest
import torch
from support import torchvision_networks
from support.comparison import assert_near
from support.converted_equals_plain import assert_converted_equals_plain, make_images
from support.lean_equals_plain import MODES
from support.other_densenets import timm_densenet
from torch import nn

from ladderseg_fast import convert

pytestmark = pytest.mark.real_use


@pytest.mark.parametrize("mode", MODES)
def test_converted_equals_plain(mode: str) -> None:
    assert_converted_equals_plain(timm_densenet(in_chans=4), mode, (2, 4, 64, 96), (1, 4, 75, 83))


def test_report() -> None:
    report = convert(timm_densenet())
    assert report.converted == {"features": "stem, 4 dense blocks, 3 transitions"}
    assert report.left == {"features.norm5": "torch runs it"}


def test_another_stem_is_left_alone() -> None:
    model = timm_densenet(stem_type="deep")
    report = convert(model, dry_run=True)
    assert report.converted == {"features": "4 dense blocks, 3 transitions"}
    assert report.left["features.conv0"] == "has kernel_size=(3, 3), expected 7: torch runs it"
    assert {"features.conv2", "features.norm2", "features.pool0"} < report.left.keys()
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))


def test_another_activation_is_left_alone() -> None:
    model = timm_densenet(act_layer="silu")
    report = convert(model)
    assert report.converted == {}
    assert report.left["features.denseblock1"] == (
        "features.denseblock1.denselayer1.norm1.act is a SiLU, expected ReLU"
    )


def test_another_pooling_is_left_alone() -> None:
    layers = torchvision_networks.timm().layers
    model = timm_densenet(aa_layer=layers.BlurPool2d, aa_stem_only=False)
    report = convert(model, dry_run=True)
    assert report.converted == {f"features.denseblock{i}": "dense block" for i in (1, 2, 3, 4)}
    assert report.left["features.transition1"] == "features.transition1.pool is a BlurPool2d, expected AvgPool2d"
    assert_converted_equals_plain(model, "train", (2, 3, 64, 64))


def test_features_alone() -> None:
    """A network for features calls the parts one by one."""
    timm = torchvision_networks.timm()
    model = timm.create_model("densenet121", features_only=True, pretrained=False)
    report = convert(model)
    assert list(report.converted.values()).count("dense block") == 4
    assert_converted_equals_plain(model, "train", (1, 3, 64, 64))


def test_intermediate_features() -> None:
    model = timm_densenet().double().eval()
    images = make_images(1, 3, 64, 64)
    _, expected = model.forward_intermediates(images, stop_early=True)
    convert(model)
    _, actual = model.forward_intermediates(images, stop_early=True)
    assert len(actual) == len(expected) == 5
    for one, other in zip(actual, expected):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        assert one.stride() == other.stride()


def test_synchronised_batch_norms() -> None:
    """Those of timm end in their ReLU; what torch puts in their place has lost it."""
    x = torch.randn(2, 3, 64, 64)
    model = timm_densenet()
    expected = copy.deepcopy(model)(x)
    synchronised = torchvision_networks.timm().layers.convert_sync_batchnorm(model)
    assert convert(synchronised).converted == {"features": "stem, 4 dense blocks, 3 transitions"}
    assert_near(synchronised(x), expected, "class scores", tolerance=1e-5)
    report = convert(nn.SyncBatchNorm.convert_sync_batchnorm(timm_densenet()))
    assert report.converted == {}
    assert "does not end in a ReLU" in report.left["features.denseblock1"]
