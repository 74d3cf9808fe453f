"""Weights in the forms that kernels read, against permutations and padding by torch: the same bits."""

import pytest
import torch
import torch.nn.functional as F
from support.devices import cpu_only, cuda_only
from torch import Tensor

from ladderseg_fast.ops.arguments import PreparedWeight
from ladderseg_fast.ops.backend import RecordedCuda, backend_of, real_dtype, using
from ladderseg_fast.ops.prepared_weights import Form, prepare, prepared_bytes, readable

SHAPES = [(1, 1, 1, 1), (32, 128, 3, 3), (5, 9, 3, 3), (19, 3, 7, 7), (40, 33, 1, 1), (130, 7, 3, 3)]


def whole_chunks(weight: Tensor, outputs: bool) -> Tensor:
    """`weight` with its channels, and with `outputs` these, padded with zeros to 16 bytes."""
    chunk = 16 // weight.element_size()
    return F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[1] % chunk, 0, -weight.shape[0] % chunk if outputs else 0))


def expected(weight: Tensor, form: Form) -> Tensor:
    if form == Form.forward:
        return whole_chunks(weight, outputs=False).permute(0, 2, 3, 1).flatten()
    if form == Form.backward:
        return whole_chunks(weight, outputs=True).permute(2, 3, 0, 1).flatten()
    return weight.flatten()


@cuda_only
def test_every_form(map_dtype: torch.dtype) -> None:
    """Of weights of the maps' dtype and of that of their gradients; more weights than one launch takes."""
    like = torch.empty(0, dtype=map_dtype)
    jobs = [
        (torch.randn(shape).to(dtype), form)
        for shape in SHAPES
        for dtype in {map_dtype, real_dtype(map_dtype)}
        for form in (Form.plain, Form.forward, Form.backward)
    ]
    jobs *= 1 + 100 // len(jobs)
    for (weight, form), prepared in zip(jobs, prepare(jobs, like), strict=True):
        values = prepared.values if isinstance(prepared, PreparedWeight) else prepared.flatten()
        assert torch.equal(values, expected(weight.to(map_dtype), form))
        assert prepared.shape == weight.shape
        assert values.nbytes <= prepared_bytes(weight, form, like)


@cuda_only
@pytest.mark.parametrize("form", [Form.plain, Form.forward, Form.backward], ids=str)
def test_some_input_channels(map_dtype: torch.dtype, form: Form) -> None:
    weight = torch.randn(6, 20, 3, 3).to(real_dtype(map_dtype))
    parts = [weight[:, :7], weight[:, 7:]]
    results = prepare([(part, form) for part in parts], torch.empty(0, dtype=map_dtype))
    for part, prepared in zip(parts, results, strict=True):
        values = prepared.values if isinstance(prepared, PreparedWeight) else prepared.flatten()
        assert torch.equal(values, expected(part.to(map_dtype), form))


@cuda_only
@pytest.mark.parametrize("strides", ["channels_last", "expanded"])
def test_other_strides(strides: str) -> None:
    weight = torch.randn(6, 8, 3, 3)
    if strides == "channels_last":
        weight = weight.contiguous(memory_format=torch.channels_last)
    else:
        weight = weight[:1].expand(6, -1, -1, -1)
    (prepared,) = prepare([(weight, Form.forward)], torch.empty(0))
    assert isinstance(prepared, PreparedWeight)
    assert torch.equal(prepared.values, expected(weight, Form.forward))


def test_what_is_ready_is_not_copied(map_dtype: torch.dtype) -> None:
    like = torch.empty(0, dtype=map_dtype)
    weight = torch.randn(6, 8, 1, 1).to(backend_of(like.device).weight_dtype(map_dtype))
    assert prepare([(weight, Form.plain)], like)[0] is weight


@cpu_only
def test_the_cpu_reads_torchs_form() -> None:
    weight = torch.randn(6, 8, 3, 3)
    assert prepare([(weight, Form.backward)], torch.empty(0))[0] is weight


def test_a_prepared_weight_of_another_form_is_refused() -> None:
    like = torch.empty(0, device="meta")
    with using(RecordedCuda(61, 20)):  # nothing is launched
        (prepared,) = prepare([(torch.empty(6, 8, 3, 3, device="meta"), Form.forward)], like)
        with pytest.raises(ValueError, match="as WeightForm.backward of torch.float32, got WeightForm.forward of"):
            readable(prepared, Form.backward, like, 8, 6)
        with pytest.raises(ValueError, match="of torch.float16, got WeightForm.forward of torch.float32"):
            readable(prepared, Form.forward, like.half(), 8, 6)


@cuda_only
def test_another_form_is_refused() -> None:
    (prepared,) = prepare([(torch.randn(6, 8, 3, 3), Form.forward)], torch.empty(0))
    with pytest.raises(ValueError, match="must be prepared as WeightForm.backward of torch.float32"):
        readable(prepared, Form.backward, torch.empty(0), 8, 6)
    with pytest.raises(ValueError, match="weight must be"):
        readable(prepared, Form.forward, torch.empty(0), 6, 8)
