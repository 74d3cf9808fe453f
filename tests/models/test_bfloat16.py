"""Whole models in bfloat16 on the CPU: as accurate as plain PyTorch under torch.autocast, in less memory."""

import copy

import pytest
import torch
from support.comparison import magnitude, relative_error
from support.ladder_models import make_images, make_model
from support.lean_equals_plain import batch_norms, randomise
from support.training_steps import WAYS, training_steps

from ladderseg_fast import LadderResNet, SegmentationModel, _core

pytestmark = pytest.mark.skipif(not _core.has_bfloat16(), reason="needs a processor with AVX512-BF16")


def _settled(model: SegmentationModel) -> SegmentationModel:
    """Running statistics become those of some images, so that maps are as large as in a trained network."""
    for norm in batch_norms(model):
        norm.momentum = 1.0
    model.float().train()(make_images(2, 128, 160, torch.float32, seed=1))
    return model.eval()


@pytest.mark.parametrize("encoder", ["densenet", "resnet18"])
def test_prediction_is_as_accurate_as_plain_autocast(encoder: str) -> None:
    model = _settled(make_model() if encoder == "densenet" else randomise(LadderResNet(5, backbone=encoder), 0))
    images = make_images(1, 97, 160, torch.float32)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(images.double()).logits
        with torch.autocast("cpu", torch.bfloat16):
            lean = model(images).logits
            model.memory = "plain"
            plain = model(images).logits
    assert lean.dtype == torch.bfloat16
    lean_error, plain_error = (relative_error([logits], [exact]) for logits in (lean, plain))
    assert 0 < lean_error <= 2 * plain_error


def test_training_is_as_accurate_as_plain_autocast() -> None:
    """Two steps; outputs are of 16 bits, the loss, the gradients and what is trained float32."""
    way = WAYS["autocast_bfloat16"]
    actual, plain, exact = (
        training_steps(*arguments) for arguments in (("lean", way), ("plain", way), ("lean", WAYS["exact"]))
    )
    for name, tensor in actual.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.bfloat16 if name.endswith(("logits", "aux")) else torch.float32), name
            assert tensor.isfinite().all() and magnitude(tensor) > 0, name
    for part in ("loss", "logits", "aux", "gradient"):
        names = [name for name in actual if part in name]
        expected = [exact[name] for name in names]
        error, of_plain = (relative_error([way[name] for name in names], expected) for way in (actual, plain))
        assert error <= 2 * of_plain, f"{part}: {error:.3g} is more than twice {of_plain:.3g}"


def test_a_prediction_holds_half_of_the_maps() -> None:
    held = {}
    for enabled in (False, True):
        model = make_model(dtype=torch.float32).eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model.predict(make_images(1, 256, 256, torch.float32))
        held[enabled] = model._workspace.resident
    assert held[True] <= 0.6 * held[False]
