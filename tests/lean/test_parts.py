"""A program in parts gives what it gives as a whole, bit for bit; recorded steps are repeated part by part.

The cut lies between a dense block and the context layer that reads it, in the only place where all that parts hand on
matters: the block's own layers and the context layer share its statistics, and the correction of its gradient.
"""

import pytest
import torch
from support.comparison import assert_near, assert_same_bits
from support.lean_equals_plain import randomise
from torch import Tensor, nn

from ladderseg_fast.lean import MemoryPlan, Workspace
from ladderseg_fast.lean.parts import PartedProgram
from ladderseg_fast.lean.program import Program, run
from ladderseg_fast.lean.stages import ContextStage, CopyStage, DenseBlockStage, HeadStage
from ladderseg_fast.nn import Context, DenseBlock, Head
from ladderseg_fast.ops.backend import EmulatedCuda

CPU = torch.device("cpu")
PLAN = MemoryPlan()


def make_modules() -> nn.Sequential:
    return randomise(nn.Sequential(DenseBlock(8, 2, 4), Context(16, 8, 8), Head(8, 3)), 0).float()


def program_of(modules: nn.Sequential) -> Program:
    block, context, head = modules
    stages = [
        CopyStage("x", "block", block.out_channels),
        DenseBlockStage(block, "block"),
        ContextStage(context, "block", "context"),
        HeadStage(head, "context", "out"),
    ]
    return Program(stages, ("x",), ("out",))


def results(modules: nn.Sequential, x: Tensor, out: Tensor) -> dict[str, Tensor]:
    found = {"out": out.detach(), "x": x.grad} | {name: p.grad for name, p in modules.named_parameters()}
    found |= {f"state: {name}": tensor for name, tensor in modules.state_dict().items()}
    return {name: each.clone() for name, each in found.items()}


def steps(cuts: list[int] | None, workspaces: list[Workspace], count: int) -> list[dict[str, Tensor]]:
    """Results of steps; `cuts` None: of the program as a whole."""
    modules = make_modules()
    program = program_of(modules)
    parted = None if cuts is None else PartedProgram(program, cuts)
    found = []
    for step in range(count):
        x = torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(step)).requires_grad_()
        modules.zero_grad()
        if parted is None:
            (out,) = run(program, [x], PLAN, workspaces[0])
        else:
            (out,) = parted.run([x], [CPU] * len(workspaces), PLAN, workspaces)
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out))
        found.append(results(modules, x, out))
    return found


def assert_same_steps(actual: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    for step, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert one.keys() == other.keys()
        for name, tensor in other.items():
            assert_same_bits(one[name], tensor, f"{step}: {name}")


@pytest.mark.parametrize("cuts", [[2], [3], [2, 3]])
def test_parts_equal_the_whole(cuts: list[int]) -> None:
    assert_same_steps(steps(cuts, [Workspace() for _ in [0, *cuts]], 2), steps(None, [Workspace()], 2))


def test_readers_in_three_parts() -> None:
    """Autograd adds the corrections that come back from two of them."""
    modules = randomise(nn.Sequential(DenseBlock(8, 2, 4), Context(16, 8, 8), Context(16, 8, 8)), 0).double()
    block, *contexts = modules
    stages = [CopyStage("x", "block", block.out_channels), DenseBlockStage(block, "block")]
    stages += [ContextStage(context, "block", name) for context, name in zip(contexts, ("first", "second"))]
    program, found = Program(stages, ("x",), ("first", "second")), []
    for cuts in ([], [2, 3]):
        x = (5 + torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0))).double().requires_grad_()
        modules.zero_grad()
        count = len(cuts) + 1
        outs = PartedProgram(program, cuts).run([x], [CPU] * count, PLAN, [Workspace() for _ in range(count)])
        sum((out.square() * (1 + number)).sum() for number, out in enumerate(outs)).backward()
        found.append(results(modules.requires_grad_(), x, outs[0]))
    for name in ("x", *(name for name, _ in modules.named_parameters())):
        assert_near(found[1][name], found[0][name], name)


def test_recorded_steps_of_parts(device: EmulatedCuda) -> None:
    workspaces = [Workspace(), Workspace()]
    assert_same_steps(steps([2], workspaces, 4), steps(None, [Workspace()], 4))
    for workspace in workspaces:
        assert not workspace.recordings.failures
        assert workspace.recordings.counts == {"interpreted": 2, "recorded": 2, "repeated": 4}


def test_a_cut_within_a_section_is_refused() -> None:
    with pytest.raises(ValueError, match="block is written on both sides"):
        PartedProgram(program_of(make_modules()), [1])
