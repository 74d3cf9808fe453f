"""Repeated steps among other parts of autograd: hooks on parameters, distributed training, many kinds of steps."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.repeated_steps import Steps, compare, make_maps, settle
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ladderseg_fast import lean
from ladderseg_fast.ops.backend import EmulatedCuda


def test_hooks_on_parameters(device: EmulatedCuda) -> None:
    """Those registered before the first step and those registered later see the gradients, and may change them."""

    def register(steps: Steps) -> None:
        def seen(grad: Tensor) -> Tensor:
            steps.results[f"{steps.count}: seen"] = grad.clone()
            return 2.0 * grad

        def accumulated(parameter: Tensor) -> None:
            assert parameter.grad is not None
            steps.results[f"{steps.count}: accumulated"] = parameter.grad.clone()
            parameter.grad = None

        steps.module.conv.weight.register_hook(seen)
        steps.module.norm.weight.register_post_accumulate_grad_hook(accumulated)

    def early(steps: Steps) -> None:
        register(steps)
        for _ in range(4):
            steps()
        assert "3: gradient of norm.weight" not in steps.results

    def late(steps: Steps) -> None:
        settle(steps)
        register(steps)
        for _ in range(2):
            steps()
        for name in ("3: seen", "3: accumulated"):
            assert steps.results[name].any()

    for scenario in (early, late):
        assert compare(device, scenario) == {"interpreted": 2, "recorded": 2, "repeated": 4}


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class LeanTransition(nn.Module):
    def __init__(self, module: nn.Module, workspace: lean.Workspace) -> None:
        super().__init__()
        self.module, self.workspace = module, workspace

    def forward(self, x: Tensor) -> Tensor:
        return lean.transition(self.module, x, workspace=self.workspace)


@pytest.mark.parametrize("view", [False, True], ids=["own gradients", "gradients in buckets"])
def test_distributed_data_parallel(device: EmulatedCuda, process_group: None, view: bool) -> None:
    """Its hooks average every gradient, and may put it into a bucket that later steps add to."""

    class ParallelSteps(Steps):
        def __init__(self) -> None:
            super().__init__()
            inner = LeanTransition(self.module, self.workspace)
            self.parallel = DistributedDataParallel(inner, gradient_as_bucket_view=view)

        def forward(self, x: Tensor) -> Tensor:
            return self.parallel(x)

    def scenario(steps: Steps) -> None:
        for _ in range(4):
            steps()
        with steps.parallel.no_sync():
            steps()
        steps()

    assert compare(device, scenario, ParallelSteps) == {"interpreted": 2, "recorded": 2, "repeated": 8}


def test_more_kinds_than_are_remembered(device: EmulatedCuda) -> None:
    """Sizes in rotation, nine of them: each is forgotten before it comes again, so that all steps are interpreted."""
    sizes = [(4, 2 * width) for width in range(1, 10)]

    def scenario(steps: Steps) -> None:
        for size in 3 * sizes:
            steps(make_maps(size=size))

    assert compare(device, scenario) == {"interpreted": 2 * 3 * len(sizes)}


def test_autocast_between_forward_and_backward(device: EmulatedCuda) -> None:
    """Backward passes within and outside of the region of their forward pass."""

    def scenario(steps: Steps) -> None:
        for step in range(6):
            with torch.autocast("cpu", torch.float16):
                x = make_maps(step)
                out = steps.forward(x)
                if step % 2:
                    steps.backward(x, out)
            if not step % 2:
                steps.backward(x, out)

    assert compare(device, scenario)["repeated"] >= 4
