"""Shapes of what a ladder returns, and the errors for what it does not take."""

from pathlib import Path

import pytest
import torch
from support.comparison import assert_near
from support.ladder_models import CLASSES, make_images, make_model
from torch import Tensor, nn

from ladderseg_fast import LadderDenseNet, LadderOutput, ops


@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize(
    ("size", "logits_size", "aux_size"),
    [
        ((64, 64), (16, 16), (1, 1)),
        ((65, 97), (17, 25), (1, 1)),
        ((96, 160), (24, 40), (1, 2)),
        ((127, 131), (32, 33), (2, 2)),
    ],
)
def test_sizes(memory: str, size: tuple[int, int], logits_size: tuple[int, int], aux_size: tuple[int, int]) -> None:
    model = make_model(memory=memory).eval()
    output = model(make_images(1, *size))
    assert isinstance(output, LadderOutput)
    assert output.logits.shape == (1, CLASSES, *logits_size)
    assert output.aux.shape == (1, CLASSES, *aux_size)


@pytest.mark.parametrize("classes", [1, 256])
def test_class_counts(classes: int) -> None:
    model = LadderDenseNet("tiny", classes).eval()
    assert model(make_images(1, 64, 64, torch.float32)).logits.shape[1] == classes
    assert model.predict(make_images(1, 64, 64, torch.float32)).shape == (1, 64, 64)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64), (2, 4, 64, 64), (2, 3, 63, 64), (2, 3, 64, 63)])
@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_bad_image_shape(memory: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images must be"):
        make_model(memory=memory)(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("memory", ["lean", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8], ids=str)
def test_images_of_another_dtype(memory: str, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="images must be torch.float64"):
        make_model(memory=memory)(torch.zeros(1, 3, 64, 64, dtype=dtype))


def test_parameters_of_lean_models_are_float32_or_float64() -> None:
    model = make_model(dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="float32"):
        model(make_images(1, 64, 64, torch.bfloat16))


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_one_value_per_channel_in_training(memory: str) -> None:
    """A single image of 64 x 64 is one pixel at 1/64: nn.BatchNorm2d has nothing to normalise with."""
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        make_model(memory=memory)(make_images(1, 64, 64))


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_double_backward(memory: str) -> None:
    """Of lean it is refused, also where the second derivative is only a part of what is asked for."""
    model = make_model(memory=memory)
    images = make_images(4, 64, 64).requires_grad_()

    def penalised_gradient() -> None:
        loss = model(images).logits.square().sum()
        (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
        torch.autograd.grad(gradient.square().sum() + images.sum(), images)

    if memory == "plain":
        penalised_gradient()
    else:
        with pytest.raises(RuntimeError, match="second derivative"):
            penalised_gradient()


def test_bad_constructor_arguments() -> None:
    with pytest.raises(ValueError, match="backbone.*densenet121.*'resnet18'"):
        LadderDenseNet("resnet18")
    for classes in (0, 257, -1):
        with pytest.raises(ValueError, match=f"num_classes.*{classes}"):
            LadderDenseNet("tiny", classes)
    with pytest.raises(ValueError, match="memory.*'fat'"):
        LadderDenseNet("tiny", memory="fat")


def test_memory_can_be_switched() -> None:
    model = make_model().eval()
    images = make_images(1, 64, 64)
    assert "Convolution" not in type(model(images).logits.grad_fn).__name__
    model.memory = "plain"
    assert "Convolution" in type(model(images).logits.grad_fn).__name__
    with pytest.raises(ValueError, match="memory.*'fat'"):
        model.memory = "fat"
    assert model.memory == "plain"
    model.memory = "lean"
    assert "Convolution" not in type(model(images).logits.grad_fn).__name__


@pytest.mark.real_use
def test_the_export_of_a_plain_model_can_be_saved(tmp_path: Path) -> None:
    model, images = make_model(memory="plain").eval(), make_images(1, 64, 64)
    torch.export.save(torch.export.export(model, (images,)), tmp_path / "model.pt2")
    output = torch.export.load(tmp_path / "model.pt2").module()(images)
    assert isinstance(output, LadderOutput)
    for found, expected in zip(output, model(images), strict=True):
        assert_near(found, expected, "scores")


@pytest.mark.real_use
def test_labels_of_a_wrapper_that_exports() -> None:
    """Whoever has a lean model and a plain one gets the same labels from both."""

    class Labels(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            return ops.reference.upsample_argmax(self.model(images).logits, images.shape[-2:])

    lean, images = make_model().eval(), make_images(1, 64, 96)
    plain = Labels(make_model(memory="plain").eval())
    expected = lean.predict(images)
    assert torch.equal(torch.export.export(plain, (images,)).module()(images), expected)
    assert torch.equal(torch.jit.trace(plain, images)(images), expected)
