"""model.predict: labels at full resolution, by the running statistics, whatever mode the model is in."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_same_bits
from support.ladder_models import make_images, make_model
from support.lean_equals_plain import batch_norms
from torch import Tensor, nn

from ladderseg_fast import LadderDenseNet
from ladderseg_fast.models import class_probabilities


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax of the upsampled logits, also in several strips of rows; the labels beside them are as without."""
    images = make_images(2, 65, 97, dtype)
    model = settle(make_model(dtype=dtype), images).eval()
    for memory, values in (("lean", 2**20), ("lean", 4000), ("plain", 2**20)):
        monkeypatch.setattr(class_probabilities, "_STRIP_VALUES", values)
        model.memory = memory
        with torch.no_grad():
            expected = F.interpolate(model(images).logits, (65, 97), mode="bilinear").softmax(dim=1)
        labels, probabilities = model.predict(images, probabilities=True)
        assert probabilities.dtype == dtype and probabilities.is_contiguous() and not probabilities.requires_grad
        torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)
        assert torch.equal(labels, model.predict(images))


@pytest.mark.parametrize("side", [64, 128, 256])
def test_same_bits_in_any_batch(side: int) -> None:
    """Maps of few pixels too, of which more images might suit other kernels."""
    model, images = make_model(dtype=torch.float32).eval(), make_images(5, side, side, torch.float32)
    with torch.no_grad():
        for i, together in enumerate(model(images).logits):
            assert_same_bits(together, model(images[i : i + 1]).logits[0], f"image {i}")


def test_wrong_arguments() -> None:
    model = make_model()
    with pytest.raises(TypeError, match=r"images must be a tensor \[N, 3, H, W\], got ndarray"):
        model.predict(make_images(1, 64, 64).numpy())
    with pytest.raises(TypeError, match="probabilities must be True or False, got 1"):
        model.predict(make_images(1, 64, 64), probabilities=1)
    with pytest.raises(TypeError, match="images must be torch.float64 like"):
        model.predict(make_images(1, 64, 64, torch.float32), probabilities=True)
    assert all(module.training for module in model.modules())


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


def test_modes_come_back_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if Ctrl-C comes while they are changed: else a part of the model would train no more."""
    model, original = make_model().train(), nn.Module.__setattr__

    def interrupted(self: nn.Module, name: str, value: object) -> None:
        original(self, name, value)
        if self is model.head:
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(nn.Module, "__setattr__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.predict(make_images(1, 64, 64))
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
