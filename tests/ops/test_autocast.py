"""torch.autocast on the CPU, which the kernels there do not follow."""

import warnings

import pytest
import torch
from support.devices import cpu_only
from support.ladder_models import make_images, make_labels, make_model

from ladderseg_fast import LadderLoss
from ladderseg_fast.ops import autocast

pytestmark = cpu_only


@pytest.mark.real_use
def test_a_warning_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocast, "_warned", False)
    model, images = make_model(dtype=torch.float32).eval(), make_images(1, 64, 64, torch.float32)
    with warnings.catch_warnings(record=True) as caught, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        warnings.simplefilter("always")
        first = model(images).logits
        model(images)
    (warning,) = [w for w in caught if "autocast" in str(w.message)]
    assert warning.category is UserWarning
    assert 'memory="plain"' in str(warning.message)
    assert first.dtype == torch.float32


@pytest.mark.real_use
def test_no_warning_without_autocast_nor_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocast, "_warned", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model(dtype=torch.float32)(make_images(2, 64, 64, torch.float32))
        with torch.autocast("cpu", torch.bfloat16):
            make_model()(make_images(2, 64, 64))


@pytest.mark.real_use
def test_the_loss_of_a_plain_models_scores() -> None:
    model, labels = make_model(memory="plain", dtype=torch.float32), make_labels(2, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(make_images(2, 64, 64, torch.float32))
        assert output.logits.dtype == torch.bfloat16
        lean, plain = LadderLoss()(output, labels), LadderLoss(memory="plain")(output, labels)
    assert lean.dtype == torch.float32
    torch.testing.assert_close(lean, plain.float(), rtol=0.02, atol=0)
