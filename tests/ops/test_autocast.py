"""torch.autocast on the CPU, which kernels follow to bfloat16 where the processor multiplies it."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from support.devices import cpu_only
from support.ladder_models import make_images, make_labels, make_model
from support.operator_suite import instruction_set

from ladderseg_fast import LadderLoss, _core
from ladderseg_fast.ops import autocast

pytestmark = cpu_only

on_bfloat16 = pytest.mark.skipif(not _core.has_bfloat16(), reason="needs a processor with AVX512-BF16")


@pytest.fixture(autouse=True)
def not_warned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(autocast, "_warned", False)
    return


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("dtype", "name", "reason"),
    [
        (torch.bfloat16, "baseline", "need a processor with AVX512-BF16"),
        (torch.float16, _core.instruction_set(), "have no float16"),
    ],
    ids=str,
)
def test_a_warning_once_where_it_has_no_effect(dtype: torch.dtype, name: str, reason: str) -> None:
    model, images = make_model(dtype=torch.float32).eval(), make_images(1, 64, 64, torch.float32)
    with (
        instruction_set(name),
        warnings.catch_warnings(record=True) as caught,
        torch.autocast("cpu", dtype),
        torch.no_grad(),
    ):
        warnings.simplefilter("always")
        first = model(images).logits
        model(images)
    (warning,) = [w for w in caught if "autocast" in str(w.message)]
    assert warning.category is UserWarning
    assert 'memory="plain"' in str(warning.message)
    assert reason in str(warning.message)
    assert first.dtype == torch.float32


@pytest.mark.real_use
def test_no_warning_without_autocast_nor_of_float64() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model(dtype=torch.float32)(make_images(2, 64, 64, torch.float32))
        with torch.autocast("cpu", torch.bfloat16):
            make_model()(make_images(2, 64, 64))


@on_bfloat16
@pytest.mark.real_use
def test_maps_are_bfloat16_where_the_processor_multiplies_it() -> None:
    model, images = make_model(dtype=torch.float32), make_images(2, 64, 64, torch.float32)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        output = model(images)
        assert output.logits.dtype == output.aux.dtype == torch.bfloat16
        loss = LadderLoss()(output, make_labels(2, 64, 64))
        loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
    assert all(buffer.dtype in (torch.float32, torch.int64) for buffer in model.buffers())


@pytest.mark.real_use
def test_the_loss_of_a_plain_models_scores() -> None:
    model, labels = make_model(memory="plain", dtype=torch.float32), make_labels(2, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(make_images(2, 64, 64, torch.float32))
        assert output.logits.dtype == torch.bfloat16
        lean, plain = LadderLoss()(output, labels), LadderLoss(memory="plain")(output, labels)
    assert lean.dtype == torch.float32
    torch.testing.assert_close(lean, plain.float(), rtol=0.02, atol=0)


def test_arguments_are_cast_as_torch_casts_those_of_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocast, "_applies", lambda dtype, device: True)
    x, integers = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        found = autocast.cast(x, integers, x.half())
    assert [each.dtype for each in found] == [torch.bfloat16, torch.int64, torch.bfloat16]
