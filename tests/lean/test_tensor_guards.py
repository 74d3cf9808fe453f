"""Torch's guards of tensors, and a torch that has none or others."""

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from support.repeated_steps import Steps, compare
from torch import Tensor

from ladderseg_fast.info import info
from ladderseg_fast.lean import tensor_guards
from ladderseg_fast.ops.backend import EmulatedCuda


class OthersArguments:
    def __init__(self, *tensors: Tensor, dynamic_shapes: bool) -> None:
        pass


class OtherMethods:
    def __init__(self, *tensors: Tensor, dynamic_dims_sizes: None, dynamic_dims_strides: None) -> None:
        pass


class Blind(OtherMethods):
    def check(self, *tensors: Tensor) -> bool:
        return True


class OnlySizes(OtherMethods):
    def __init__(self, *tensors: Tensor, **options: None) -> None:
        self._sizes = [tensor.size() for tensor in tensors]

    def check(self, *tensors: Tensor) -> bool:
        return self._sizes == [tensor.size() for tensor in tensors] and len(set(map(id, tensors))) == len(tensors)


def test_this_torch_has_guards() -> None:
    assert tensor_guards.are_available()
    assert info()["lean steps on GPUs"] == "repeated"


@pytest.mark.parametrize("kind", [OthersArguments, OtherMethods, Blind, OnlySizes])
def test_other_guards_are_not_used(kind: Callable[..., tensor_guards.Guards], monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("guards")
    monkeypatch.setitem(sys.modules, "torch._C._dynamo.guards", module)
    of_this_torch = tensor_guards._kind.__wrapped__
    assert of_this_torch() is None
    module.TensorGuards = kind
    assert of_this_torch() is None


def test_steps_without_guards_are_interpreted(device: EmulatedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_guards, "_kind", lambda: None)

    def scenario(steps: Steps) -> None:
        for _ in range(3):
            steps()
        with torch.no_grad():
            steps.forward(torch.ones(1, 8, 4, 4))

    assert compare(device, scenario) == {"interpreted": 7}
    assert info()["lean steps on GPUs"].startswith("interpreted")
