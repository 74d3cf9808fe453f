"""Steps of converted models through the CUDA path, emulated: they compute what they compute on the CPU."""

import copy

import pytest
import torch
from emulator.emulation import emulated
from support.comparison import assert_near
from support.converted_equals_plain import make_images
from support.lean_equals_plain import randomise
from support.other_densenets import smp_densenet
from torch import nn

from ladderseg_fast import convert
from ladderseg_fast.ops.backend import using


@pytest.mark.parametrize("architecture", ["sm_80", pytest.param("sm_61", marks=pytest.mark.slow)])
def test_repeated_steps_in_float64(architecture: str) -> None:
    """Four steps, of which the last two are repeated from a recording."""
    expected = randomise(smp_densenet()).double()
    convert(expected)
    actual = copy.deepcopy(expected)
    for number in range(4):
        images = make_images(1, 3, 32, 32, seed=number)
        step(expected, images)
        with using(emulated(architecture)):
            step(actual, images)
        gradients = dict(expected.named_parameters())
        for name, parameter in actual.named_parameters():
            assert_near(parameter.grad, gradients[name].grad, f"step {number}: {name}", 1e-9, scale=1e-3)
    statistics = expected.state_dict()
    for name, tensor in actual.state_dict().items():
        torch.testing.assert_close(tensor, statistics[name], rtol=1e-9, atol=1e-9, msg=name)
    recordings = actual.lean_state.workspace.recordings
    assert recordings.counts["repeated"] > 0, (dict(recordings.counts), recordings.failures)


def step(model: nn.Module, images: torch.Tensor) -> None:
    model.zero_grad()
    model.train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()  # a single value per channel at the end
    sum(each.square().sum() for each in model(images)[1:]).backward()
