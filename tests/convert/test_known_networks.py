"""The networks of torchvision, timm and segmentation_models_pytorch that are known, as these libraries make them."""

import pytest
import torch
from support import torchvision_networks

from ladderseg_fast import convert

DENSENET, RESNET = "stem, 4 dense blocks, 3 transitions", "stem, 4 residual layers"

TORCHVISION = {
    **{f"densenet{depth}": {"features": DENSENET} for depth in (121, 161, 169, 201)},
    **{f"resnet{depth}": {"": RESNET} for depth in (18, 34, 50, 101, 152)},
    **{f"wide_resnet{depth}_2": {"": RESNET} for depth in (50, 101)},
    # All their units have convolutions in groups.
    **{name: {} for name in ("resnext50_32x4d", "resnext101_32x8d")},
}

TIMM = {
    **{f"densenet{depth}": {"features": DENSENET} for depth in (121, 161, 169, 201)},
    "densenetblur121d": {"features": "4 dense blocks, 3 transitions"},
    **{name: {"": RESNET} for name in ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")},
    "resnet50c": {"": "4 residual layers"},
    **{name: {} for name in ("resnext50_32x4d", "seresnet50")},
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    models = torchvision_networks.torchvision().models
    with torch.device("meta"):
        model = getattr(models, name)()
    assert convert(model, dry_run=True).converted == TORCHVISION[name]


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    with torch.device("meta"):
        model = torchvision_networks.timm().create_model(name)
    report = convert(model, dry_run=True)
    assert report.converted == TIMM[name]
    if not report.converted:
        assert len(report.left) >= 4


@pytest.mark.parametrize("name", ["densenet121", "densenet161", "densenet169", "densenet201"])
def test_encoders(name: str) -> None:
    encoder = torchvision_networks.segmentation_models().encoders.get_encoder(name, weights=None)
    assert convert(encoder, dry_run=True).converted == {"": "pooling, 4 dense blocks, 3 transitions"}
