"""Whole training steps through the CUDA path, emulated: they compute what the CPU's lean path does.

Every kernel of a step runs with few channels; the slow tests have as many as real models in most places.
"""

import functools

import pytest
import torch
from emulator.emulation import emulated
from support.comparison import assert_near, magnitude, relative_error
from support.ladder_models import make_model, make_narrow_model
from support.training_steps import WAYS, training_steps
from torch import Tensor

from ladderseg_fast.ops.backend import using

Results = dict[str, Tensor]


MODELS = {"narrow": make_narrow_model, "wide": make_model}


def on_the_emulator(model: str, way: str, architecture: str) -> Results:
    with using(emulated(architecture)):
        return training_steps("lean", WAYS[way], make=MODELS[model])


@functools.cache
def on_the_cpu(model: str, way: str, memory: str = "lean") -> Results:
    return training_steps(memory, WAYS[way], make=MODELS[model])


def assert_at_most_twice(model: str, actual: Results, other: Results, parts: list[str]) -> None:
    """Over all tensors of a part, `actual` is at most twice as far from float64 as `other` is."""
    exact = on_the_cpu(model, "exact")
    for part in parts:
        names = [name for name in actual if part in name]
        assert names
        actual_error, other_error = (
            relative_error([way[name] for name in names], [exact[name] for name in names]) for way in (actual, other)
        )
        assert actual_error <= 2 * other_error, f"{part}: {actual_error:.3g} is more than twice {other_error:.3g}"


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        ("narrow", "sm_80"),
        pytest.param("wide", "sm_80", marks=pytest.mark.slow),
        pytest.param("wide", "sm_61", marks=pytest.mark.slow),
    ],
)
def test_two_steps_in_float64(model: str, architecture: str) -> None:
    """Losses, gradients, running statistics and parameters are those of the CPU up to rounding."""
    actual, expected = on_the_emulator(model, "float64", architecture), on_the_cpu(model, "float64")
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            assert_near(actual[name], tensor, name, tolerance=1e-9)
        else:
            assert torch.equal(actual[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_80", "sm_61"])
def test_two_steps_in_float32(architecture: str) -> None:
    """They are at most twice as far from float64 as on the CPU."""
    parts = ["loss", "logits", "aux", "gradient", "running_mean", "running_var"]
    actual, other = on_the_emulator("wide", "float32", architecture), on_the_cpu("wide", "float32")
    assert_at_most_twice("wide", actual, other, parts)


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("narrow", "float16"),
        pytest.param("wide", "float16", marks=pytest.mark.slow),
        pytest.param("wide", "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_autocast(model: str, dtype: str) -> None:
    """As in plain PyTorch: outputs are of 16 bits, the loss and the gradients of the parameters float32, and no less
    accurate. The loss is scaled."""
    way = f"autocast_{dtype}"
    actual = on_the_emulator(model, way, "sm_80")
    for name, tensor in actual.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (getattr(torch, dtype) if name.endswith(("logits", "aux")) else torch.float32), name
            assert tensor.isfinite().all() and magnitude(tensor) > 0, name
    assert_at_most_twice(model, actual, on_the_cpu(model, way, "plain"), ["loss", "logits", "aux", "gradient"])
