"""Weights of convolutions in the maps' dtype and in the form that kernels read, many of them in one launch."""

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor

from .. import _core
from .arguments import PreparedWeight, Weight, expect_weight
from .backend import backend_of, launch, real_dtype
from .kernel import vector_kernel
from .pointers import address, memory

Form: TypeAlias = _core.WeightForm

#: Elements of a prepared weight before the next one: every weight's address is a multiple of 256 bytes.
_ALIGNMENT = 256


def prepare(weights: Sequence[tuple[Tensor, Form]], like: Tensor) -> list[Weight]:
    """Weights [M, C, k, k] in the dtype and the forms that kernels read beside maps like `like`.

    They are tensors [M, C, k, k] of the plain form, and on CPUs in any case.
    """
    backend = backend_of(like.device)
    if not backend.tap_major_weights:
        dtype = backend.weight_dtype(like.dtype)
        return [weight.to(dtype).contiguous() for weight, _ in weights]
    weights = [(_readable_rows(weight), form) for weight, form in weights]  # alive until they have been read
    ready = [form == Form.plain and weight.dtype == like.dtype and weight.is_contiguous() for weight, form in weights]
    sizes = [0 if done else _size(weight, form, like) for done, (weight, form) in zip(ready, weights)]
    step = _ALIGNMENT // like.element_size()
    places = [-(-size // step) * step for size in sizes]
    parts = like.new_empty(sum(places)).split(places)
    results: list[Weight] = []
    jobs = []
    for done, size, part, (weight, form) in zip(ready, sizes, parts, weights):
        values = part[:size]
        if done:
            results.append(weight)
            continue
        jobs.append(_job(weight, form, values))
        plain = form == Form.plain
        results.append(values.view(weight.shape) if plain else PreparedWeight(weight.shape, form, values))
    if jobs:
        _prepare(like, jobs)
    return results


@vector_kernel("prepare_weights")
def _prepare(like: Tensor, jobs: "list[_core.Weight]") -> None:
    launch(_core.prepare_weights, like, jobs)


def readable(weight: Weight, form: Form, like: Tensor, inputs: int, outputs: int) -> Tensor:
    """The elements of a weight [outputs, inputs, 3, 3] in `form`, for maps like `like`.

    Raises:
        ValueError: it has another shape, or has been prepared in another form.
    """
    expect_weight(weight, inputs, outputs, 3)
    if isinstance(weight, Tensor):
        (weight,) = prepare([(weight, form)], like)
    if isinstance(weight, Tensor):
        return weight
    if weight.form != form or weight.values.dtype != like.dtype:
        found = f"{weight.form} of {weight.values.dtype}"
        raise ValueError(f"weight must be prepared as {form} of {like.dtype}, got {found}")
    return weight.values


def prepared_bytes(weight: Tensor, form: Form, like: Tensor) -> int:
    """Bytes that `prepare` takes for a weight [M, C, k, k], at most."""
    return _size(weight, form, like) * like.element_size() + _ALIGNMENT


def _size(weight: Tensor, form: Form, like: Tensor) -> int:
    chunk = 16 // like.element_size()
    outputs, channels, *kernel = weight.shape
    if form != Form.plain:
        channels = -(-channels // chunk) * chunk
    if form == Form.backward:
        outputs = -(-outputs // chunk) * chunk
    return outputs * channels * kernel[0] * kernel[1]


def _readable_rows(weight: Tensor) -> Tensor:
    """`weight` [M, C, k, k] itself if each output has contiguous elements of its own, otherwise a copy."""
    _, channels, height, width = weight.shape
    taps, (stride, *strides) = height * width, weight.stride()
    return weight if strides == [taps, width, 1] and stride >= channels * taps else weight.contiguous()


def _job(weight: Tensor, form: Form, values: Tensor) -> "_core.Weight":
    outputs, channels, *kernel = weight.shape
    taps = kernel[0] * kernel[1]
    stride = weight.stride(0) if outputs > 1 else channels * taps
    real = weight.dtype == real_dtype(values.dtype) != values.dtype
    extent = ((outputs - 1) * stride + channels * taps) * weight.element_size()
    source = address(weight), weight.get_device(), extent
    return _core.Weight(source, real, stride, outputs, channels, taps, form, memory(values))
