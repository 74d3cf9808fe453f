"""A model on two emulated devices: each part repeats its recorded steps, and results are those of one device.

All emulated devices have the CPU's tensors, so that one name stands for two.
"""

import copy

import pytest
import torch
from emulator.emulation import emulated
from support.comparison import assert_same_bits
from support.ladder_models import CLASSES, TINY, make_images, make_labels
from support.lean_equals_plain import randomise
from torch import Tensor

from ladderseg_fast import LadderDenseNet, LadderLoss
from ladderseg_fast.models.segmentation_model import SegmentationModel
from ladderseg_fast.ops.backend import using

SIZE = 2, 64, 64


def results_of_steps(model: SegmentationModel, autocast: torch.dtype | None, steps: int) -> dict[str, Tensor]:
    """Scores and gradients of steps of SGD, and the state after them."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    found = {}
    for step in range(steps):
        images, labels = make_images(*SIZE, dtype=torch.float32, seed=step), make_labels(*SIZE, seed=step)
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            output = model(images)
            loss = LadderLoss()(output, labels)
        loss.backward()
        found |= {f"{step}: {name}": getattr(output, name).detach().clone() for name in ("logits", "aux")}
        found |= {f"{step}: gradient of {name}": p.grad.clone() for name, p in model.named_parameters()}
        optimiser.step()
    return found | model.state_dict()


@pytest.mark.parametrize(
    ("after", "autocast"),
    [
        pytest.param(["db2"], None, marks=pytest.mark.slow),
        pytest.param(["db4b"], torch.float16, marks=pytest.mark.slow),
        pytest.param(["db1", "db4a", "context"], None, marks=pytest.mark.slow),
    ],
)
def test_repeated_steps_equal_those_of_one_device(after: list[str], autocast: torch.dtype | None) -> None:
    model = randomise(LadderDenseNet(TINY, CLASSES))
    cut = copy.deepcopy(model).place(["cpu"] * (len(after) + 1), after)
    with using(emulated("sm_80")):
        expected = results_of_steps(model, autocast, 3)
        actual = results_of_steps(cut, autocast, 3)
    assert cut.placement is not None
    for workspace in cut.placement.workspaces:
        assert not workspace.recordings.failures
        assert workspace.recordings.counts == {"interpreted": 2, "recorded": 2, "repeated": 2}
    for name, tensor in expected.items():
        assert_same_bits(actual[name], tensor, name)
