"""Models by name, and the options that all of them take."""

import pytest
import torch
from support.ladder_models import CLASSES, TINY, make_images, make_labels
from support.lean_equals_plain import batch_norms
from support.parameter_counts import PARAMETER_COUNTS

from ladderseg_fast import LadderDenseNet, LadderLoss, LadderOutput, LadderResNet, create_model, list_models
from ladderseg_fast.models.resnets import ResNet
from ladderseg_fast.nn import DenseNetFeatures


def test_names() -> None:
    names = list_models()
    assert set(names) - {TINY} == PARAMETER_COUNTS.keys()  # tests of training register a model of their own
    assert names == sorted(names)
    assert list_models("*resnet50*") == ["dilated_resnet50", "ladder_resnet50", "resnet50_32x"]
    assert list_models("vgg*") == []


def test_a_backbone_stands_for_its_ladder() -> None:
    for backbone, kind in (("densenet169", LadderDenseNet), ("resnet18", LadderResNet)):
        model = create_model(backbone)
        assert isinstance(model, kind)
        assert model.configuration["backbone"] == backbone


def test_blocks_that_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"split_blocks must be empty or \(4,\) for a ResNet, got \(3,\)"):
        ResNet("resnet18").build(3, split_blocks=(3,), dilated=False)
    with pytest.raises(ValueError, match="dense block 2 has one layer and cannot be split"):
        DenseNetFeatures((2, 1), stem_channels=4, growth_rate=2, split_blocks=(2,))


def test_a_resnet_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="backbone must be one of resnet18, .*, got 'densenet121'"):
        ResNet("densenet121")


@pytest.mark.parametrize("name", ["", "densenet264", "Ladder_DenseNet121", "ladder_"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match="ladder_densenet121, .*got"):
        create_model(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be between 1 and 256, got 0"),
        ({"num_classes": 257}, "num_classes must be between 1 and 256, got 257"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"memory": "leaner"}, "memory must be lean, plain, a budget such as 8GiB"),
    ],
)
@pytest.mark.parametrize("name", ["ladder_densenet121", "resnet50_32x"])
def test_options_out_of_range(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(name, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet50"}, "backbone must be one of densenet121"),
        ({"context": "none"}, "context must be one of dilated, pyramid"),
        ({"split_blocks": (4, 5)}, "split_blocks must be numbers from 1 to 4"),
    ],
)
def test_bad_design(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LadderDenseNet(**options)


@pytest.mark.parametrize("name", ["ladder_densenet121", "ladder_resnet50"])
@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels(name: str, channels: int) -> None:
    """Lean and plain see them alike; RGB is an error that names what was expected."""
    model = create_model(name, CLASSES, in_channels=channels).eval()
    images = torch.randn(1, channels, 65, 80)
    lean = model(images)
    model.memory = "plain"
    plain = model(images)
    # Of float64 with the same weights either is 1e-6 of the largest score away.
    assert (lean.logits - plain.logits).abs().max() <= 1e-5 * plain.logits.abs().max()
    with pytest.raises(ValueError, match=rf"images must be \[N, {channels}, H, W\]"):
        model(torch.randn(1, 3, 65, 80))


@pytest.mark.parametrize("name", ["densenet121_32x", "dilated_densenet121", "ladder_densenet169_split34"])
def test_smallest_images(name: str) -> None:
    model = create_model(name, CLASSES).eval()
    least = model.min_size
    assert model(torch.randn(1, 3, least, least)).logits.isfinite().all()
    with pytest.raises(ValueError, match=f"at least {least} x {least}"):
        model(torch.randn(1, 3, least, least - 1))


def test_loss_of_a_single_head() -> None:
    """Is the main term alone, with weight 1."""
    logits, labels = torch.randn(2, CLASSES, 16, 16), make_labels(2, 64, 64)
    single = LadderLoss()(LadderOutput(logits, None), labels)
    assert torch.equal(single, LadderLoss(aux_weight=0.0)(LadderOutput(logits, logits), labels))


class TestParameterGroups:
    def test_every_parameter_once(self) -> None:
        for name in ("ladder_densenet121", "resnet50_32x"):
            model = create_model(name)
            encoder, decoder = model.parameter_groups(1e-3)
            assert {id(p) for p in encoder["params"]} == {id(p) for p in model.features.parameters()}
            everything = encoder["params"] + decoder["params"]
            assert len(everything) == len({id(p) for p in everything}) == len(list(model.parameters()))

    def test_learning_rates(self) -> None:
        model = create_model("ladder_densenet121")
        assert [group["lr"] for group in model.parameter_groups(5e-4)] == [5e-4, 5e-4]
        model.pretrained = True
        assert [group["lr"] for group in model.parameter_groups(5e-4)] == [1e-4, 5e-4]
        assert [group["lr"] for group in model.parameter_groups(5e-4, pretrained_divisor=10)] == [5e-5, 5e-4]

    def test_frozen_parameters_are_left_out(self) -> None:
        model = create_model("ladder_densenet121")
        model.features.requires_grad_(False)
        encoder, decoder = model.parameter_groups(1e-3)
        assert encoder["params"] == []
        assert all(parameter.requires_grad for parameter in decoder["params"])

    def test_an_optimizer_takes_them(self) -> None:
        model = create_model("ladder_densenet121", CLASSES, frozen_bn=True)
        model.pretrained = True
        optimizer = torch.optim.SGD(model.parameter_groups(1.0))
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for name, parameter in model.named_parameters():
            step = 0.2 if name.startswith("features.") else 1.0
            assert torch.allclose(before[name] - parameter, torch.full_like(parameter, step), atol=1e-6), name


def test_frozen_bn_can_be_switched() -> None:
    model = create_model("ladder_resnet50", CLASSES, frozen_bn=True)
    assert model.training and not any(norm.training for norm in batch_norms(model))
    model.frozen_bn = False
    assert all(norm.training for norm in batch_norms(model.train()))
    model.frozen_bn = True
    assert not any(norm.training for norm in batch_norms(model.train()))
    model.predict(make_images(1, 64, 64, torch.float32))
    assert model.training and not any(norm.training for norm in batch_norms(model))
