"""The core refuses what does not fit, whoever calls it and with whatever it has checked."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.devices import cpu_only

from ladderseg_fast import _core
from ladderseg_fast.ops.arguments import Norm
from ladderseg_fast.ops.bn_relu import bn_relu_forward
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ladderseg_fast.ops.kernel import check_declared


@cpu_only
@pytest.mark.real_use
@pytest.mark.parametrize("option", [[], ["-O"]], ids=["asserts", "no asserts"])
def test_misuse_of_every_kernel_is_an_error(option: list[str]) -> None:
    """In a process of its own, which survives it."""
    script = Path(__file__).with_name("kernel_misuse.py")
    result = subprocess.run([sys.executable, *option, str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 500


@pytest.mark.real_use
def test_a_batch_norm_of_another_width_is_named() -> None:
    x = torch.zeros(1, 8, 4, 4).to(memory_format=torch.channels_last)
    norm = Norm(torch.zeros(8), torch.ones(7), torch.zeros(8))
    with pytest.raises(ValueError, match="bn_relu_forward: scale has 28 bytes, expected 8 elements of 4 bytes"):
        bn_relu_forward(x, norm, x.clone())


@pytest.mark.real_use
def test_a_weight_of_another_shape_and_as_many_numbers_is_named() -> None:
    x = torch.zeros(1, 8, 4, 4).to(memory_format=torch.channels_last)
    norm = Norm(torch.zeros(8), torch.ones(8), torch.zeros(8))
    out = torch.zeros(1, 4, 4, 4).to(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"weight must be \[4, 8, 1, 1\] for these maps, got \[8, 4, 1, 1\]"):
        bn_relu_conv1x1_forward(x, norm, torch.zeros(8, 4, 1, 1), out)


def test_a_team_has_a_member() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1"):
        _core.Cpu(_core.Element.float32, 0)


def test_every_kernel_of_the_core_has_a_cost_and_no_other() -> None:
    """A kernel without one would count as nothing in plans and benchmarks."""
    names = _core.kernel_names()
    check_declared(names)
    with pytest.raises(ImportError, match="no operator calls these kernels of the core: toy_forward;"):
        check_declared((*names, "toy_forward"))
    with pytest.raises(ImportError, match="the core has no such kernels: bn_relu_forward;"):
        check_declared([name for name in names if name != "bn_relu_forward"])
