"""Comparisons of tensors. A failing one says where the worst element is and what share of elements fails."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

#: float64 results of two ways of computing the same: rounding only, at every size that the tests use.
FLOAT64_TOLERANCE = 1e-10

#: An error that is never held against a dtype: this many units in the last place of the largest element. A result of
#: 16 bits is rounded once, from sums in float32.
FLOORS = {torch.float32: 16, torch.float16: 1, torch.bfloat16: 1}


def assert_near(
    actual: Tensor, expected: Tensor, name: str, tolerance: float = FLOAT64_TOLERANCE, scale: float = 0.0
) -> None:
    """Every element of `actual` is within `tolerance`, relative to the largest finite |expected|, or to `scale`.

    NaN and infinities must stand where `expected` has them.
    """
    _assert_same_kind(actual, expected, name)
    _assert_errors_below(actual, expected, tolerance * max(magnitude(expected), scale), name)


def assert_as_accurate(
    actual: Tensor,
    plain: Tensor,
    exact: Tensor,
    name: str,
    scale: float = 0.0,
    dtype: torch.dtype | None = None,
    floors: Mapping[torch.dtype, int] = FLOORS,
) -> None:
    """`actual` is at most twice as far from `exact` (float64) as `plain`, computed in the dtype of `actual`, is.

    So no tolerance has to be guessed: what plain PyTorch itself loses to rounding sets it. In float64 `plain`
    is `exact`, and the tolerance is FLOAT64_TOLERANCE. `scale` is the size of the numbers that `exact` is made of,
    where that is known and these may cancel; `dtype` that of the maps it is computed from, if another than its own.
    `floors` are like FLOORS.
    """
    _assert_same_kind(actual, plain, name)
    tolerance = 2.0 * _errors(plain, exact).amax().item() if exact.numel() else 0.0
    if actual.dtype == torch.float64:
        floor = FLOAT64_TOLERANCE * magnitude(exact)
    else:
        dtype = dtype or actual.dtype
        floor = floors[dtype] * torch.finfo(dtype).eps * max(magnitude(exact), scale)
    _assert_errors_below(actual, exact, max(tolerance, floor), name)


def assert_same_bits(actual: Tensor, expected: Tensor, name: str) -> None:
    """The two tensors are equal, bit for bit, NaN included."""
    _assert_same_kind(actual, expected, name)
    _assert_errors_below(actual, expected, 0.0, name)


def relative_error(actual: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """|actual - exact| / |exact| in the Euclidean norm, over all elements of all tensors."""
    difference = torch.stack([(a.double() - e.double()).norm() for a, e in zip(actual, exact, strict=True)])
    return (difference.norm() / torch.stack([e.double().norm() for e in exact]).norm()).item()


def magnitude(expected: Tensor) -> float:
    """The largest finite absolute value; 0 where there is none."""
    expected = expected.detach()
    if expected.numel() and expected.is_floating_point():
        # Mostly everything is finite, and one pass finds it.
        largest = max(abs(value.item()) for value in expected.aminmax())
        if math.isfinite(largest):
            return largest
    finite = expected[expected.isfinite()].double().abs()
    return finite.amax().item() if finite.numel() else 0.0


def _assert_same_kind(actual: Tensor, expected: Tensor, name: str) -> None:
    assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)} instead of {tuple(expected.shape)}"
    assert actual.dtype == expected.dtype, f"{name}: {actual.dtype} instead of {expected.dtype}"


def _errors(actual: Tensor, expected: Tensor) -> Tensor:
    """Absolute errors in float64; 0 where both are the same infinity or NaN, infinite where only one is finite."""
    actual, expected = actual.detach().double(), expected.detach().double()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    return (actual - expected).abs().nan_to_num(nan=torch.inf).masked_fill(same, 0.0)


def _assert_errors_below(actual: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    actual, expected = actual.detach(), expected.detach()
    # What is right costs little; NaN, and infinities on both sides, are not below anything.
    if actual.numel() == 0 or (actual.double() - expected.double()).abs_().amax().item() <= tolerance:
        return
    errors = _errors(actual, expected)
    wrong = int((errors > tolerance).sum())
    if wrong == 0:
        return
    flat = int(errors.argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(flat), errors.shape)] if errors.dim() else []
    raise AssertionError(
        f"{name}: {wrong} of {errors.numel()} elements ({100 * wrong / errors.numel():.3g} %) are off by more than "
        f"{tolerance:.3g}; the worst is {index}: {actual.reshape(-1)[flat].item():.9g} instead of "
        f"{expected.reshape(-1)[flat].item():.9g} (error {errors.reshape(-1)[flat].item():.3g})"
    )
