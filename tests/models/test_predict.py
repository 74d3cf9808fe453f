"""model.predict: labels at full resolution, by the running statistics, whatever mode the model is in."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_same_bits
from support.ladder_models import make_images, make_model
from support.lean_equals_plain import batch_norms
from torch import Tensor

from ladderseg_fast import LadderDenseNet


def settle(model: LadderDenseNet, images: Tensor) -> LadderDenseNet:
    """Running statistics become those of `images`, so that several classes are predicted."""
    for norm in batch_norms(model):
        norm.momentum = 1.0
    model.train()(images)
    return model


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (96, 160)], ids=str)
def test_is_the_best_class_of_the_upsampled_logits(size: tuple[int, int]) -> None:
    for memory in ("lean", "plain"):
        images = make_images(4, *size)
        model = settle(make_model(memory=memory), images).eval()
        logits = F.interpolate(model(images).logits, size, mode="bilinear", align_corners=False)
        labels = model.predict(images)
        assert labels.dtype == torch.uint8
        assert torch.equal(labels, logits.argmax(dim=1).to(torch.uint8))
        assert len(labels.unique()) > 2  # else the comparison says little


def test_in_training_mode() -> None:
    """It leaves modes, running statistics and gradients alone."""
    model = make_model().train()
    model.features.denseblock2.eval()
    next(batch_norms(model.up3)).eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = copy.deepcopy(model.state_dict())
    images = make_images(1, 65, 97)
    labels = model.predict(images)
    assert not labels.requires_grad
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, tensor in model.state_dict().items():
        assert_same_bits(tensor, before[name], name)
    assert torch.equal(labels, model.eval().predict(images))


def test_modes_come_back_after_an_error() -> None:
    model = make_model().train()
    with pytest.raises(ValueError, match="images must be"):
        model.predict(make_images(1, 32, 32))
    assert all(module.training for module in model.modules())


def test_between_forward_and_backward() -> None:
    """A prediction in the middle of a training step does not disturb it."""
    model = make_model()
    images = make_images(4, 64, 64)
    twin = copy.deepcopy(model)
    twin(images).logits.sum().backward()
    loss = model(images).logits.sum()
    model.predict(make_images(1, 96, 96))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert_same_bits(parameter.grad, twin.get_parameter(name).grad, name)
