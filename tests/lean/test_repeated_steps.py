"""Steps that are repeated from a recording do what interpreted steps do, bit for bit; others are interpreted."""

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable

import pytest
import torch
from support.comparison import assert_same_bits
from support.lean_equals_plain import randomise
from support.repeated_steps import Steps, compare, make_maps, make_transition, settle
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.lean import call_recording, workspace
from ladderseg_fast.lean.program import Program, run
from ladderseg_fast.lean.recorder import Recorder, extent
from ladderseg_fast.lean.stages import HeadStage, ResidualStage
from ladderseg_fast.nn import BasicBlock, Bottleneck, Head, PyramidContext, TransitionUp
from ladderseg_fast.ops.backend import EmulatedCuda


def test_the_third_step_and_later_ones_are_repeated(device: EmulatedCuda) -> None:
    def scenario(steps: Steps) -> None:
        for _ in range(5):
            steps()

    assert compare(device, scenario) == {"interpreted": 2, "recorded": 2, "repeated": 6}


class SectionSteps(Steps):
    """Steps of any section on maps of these shapes [C, H, W], two of each."""

    def __init__(self, run: Callable[..., Tensor], module: nn.Module, *shapes: tuple[int, int, int]) -> None:
        super().__init__(randomise(module, 0).float())
        self.run, self.shapes = run, shapes

    def __call__(self, x: Tensor | None = None, **options: object) -> None:
        maps = [make_maps(self.count + i, c, (h, w)) for i, (c, h, w) in enumerate(self.shapes)]
        out = self.run(self.module, *maps, workspace=self.workspace)
        self.module.zero_grad()
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out), **options)
        self.note({"out": out} | {f"maps {i}": x.grad for i, x in enumerate(maps)})


def run_stem(module: nn.Sequential, x: Tensor, workspace: lean.Workspace) -> Tensor:
    return lean.stem(module[0], module[1], x, workspace=workspace)


def run_units(module: nn.Sequential, x: Tensor, workspace: lean.Workspace) -> Tensor:
    """Residual units and a head. A step whose backward reads an output is not repeated, so units alone are not."""
    stages = [ResidualStage(module[:-1], "x", "layer"), HeadStage(module[-1], "layer", "out")]
    plan = lean.MemoryPlan(chunk_bytes=2048)  # in strips, those of patches too
    return run(Program(stages, ("x",), ("out",)), [x.relu()], plan, workspace)[0]


SECTIONS: dict[str, Callable[[], Steps]] = {
    "bottlenecks": lambda: SectionSteps(
        run_units,
        nn.Sequential(Bottleneck(8, 4, stride=2), Bottleneck(16, 4), Bottleneck(16, 4), Head(16, 3)),
        (8, 7, 8),
    ),
    "basic blocks": lambda: SectionSteps(
        run_units, nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 16, stride=2), Head(16, 3)), (8, 7, 8)
    ),
    "pyramid": lambda: SectionSteps(lean.context, PyramidContext(16, 8), (16, 6, 8)),
    "head": lambda: SectionSteps(lean.head, Head(8, 3), (8, 4, 5)),
    "transition_up": lambda: SectionSteps(lean.transition_up, TransitionUp(4, 8, 4, 4), (4, 2, 3), (8, 4, 6)),
    "stem": lambda: SectionSteps(
        run_stem, nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)), (3, 17, 20)
    ),
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section(device: EmulatedCuda, section: str) -> None:
    """Also with operators of torch between the launches, whose results torch allocates."""

    def scenario(steps: Steps) -> None:
        for _ in range(4):
            steps()

    assert compare(device, scenario, SECTIONS[section]) == {"interpreted": 2, "recorded": 2, "repeated": 4}


def test_one_parameter_in_two_places(device: EmulatedCuda) -> None:
    """Interpreted, for a reason that is stored once, beside the recordings of other steps."""

    def scenario(steps: Steps) -> None:
        norm = steps.module.norm
        beta = norm.bias
        for step in range(12):
            norm.bias = norm.weight if 2 <= step < 11 else beta
            steps()

    steps = Steps()
    assert compare(device, scenario)["repeated"] == 2
    scenario(steps)
    assert len(steps.workspace.recordings.failures) == 1


def test_collective_calls(device: EmulatedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps in which batch norms exchange statistics are interpreted, those before and after are not."""
    module = nn.SyncBatchNorm.convert_sync_batchnorm(make_transition())
    calls, group = [], object()

    def gather(outputs: list[Tensor], own: Tensor, group: object) -> None:
        """As if there were two processes with the same batch."""
        calls.append("gather")
        for output in outputs:
            output.copy_(own)

    def reduce(both: Tensor, group: object) -> None:
        calls.append("reduce")
        both.mul_(2)

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)

    def scenario(steps: Steps) -> None:
        for step in range(12):
            monkeypatch.setattr(torch.distributed, "is_initialized", lambda here=4 <= step < 8: here)
            steps.module.norm.process_group = group if 4 <= step < 8 else None
            steps()

    steps = Steps(module)
    assert compare(device, scenario, lambda: Steps(copy.deepcopy(module)))["repeated"] == 2 * (2 + 4)
    calls.clear()
    scenario(steps)
    assert calls == ["gather", "reduce"] * 4
    assert steps.workspace.recordings.failures == ["batch norms exchange statistics with other processes"]


def test_retained_graph(device: EmulatedCuda) -> None:
    """Backward twice gives the same gradients twice; both passes are interpreted, after a repeated forward pass."""

    def scenario(steps: Steps) -> None:
        settle(steps)
        x = make_maps()
        out = steps.forward(x)
        for last in (False, True):
            x.grad = None
            steps.backward(x, out, retain_graph=not last)
        steps()

    assert compare(device, scenario) == {"interpreted": 3, "recorded": 2, "repeated": 4}


def test_several_forward_passes_before_backward(device: EmulatedCuda) -> None:
    """The first has the arena; the others are interpreted."""

    def scenario(steps: Steps) -> None:
        settle(steps)
        maps = [make_maps(step) for step in range(3)]
        outs = [steps.forward(x) for x in maps]
        for i in (1, 0, 2):
            steps.backward(maps[i], outs[i])
        steps()

    assert compare(device, scenario)["repeated"] == 4


def test_forward_without_backward(device: EmulatedCuda) -> None:
    """It gives the arena back when its graph is gone; and one whose loss is held after backward, at once."""

    def scenario(steps: Steps) -> None:
        settle(steps)
        out = steps.forward(make_maps())
        steps.note({"out": out})
        del out
        x = make_maps()
        held = steps.forward(x)
        steps.backward(x, held)
        steps()

    assert compare(device, scenario)["repeated"] == 5


def test_forward_that_never_has_a_backward(device: EmulatedCuda) -> None:
    """It is recorded a few times in vain, and then only interpreted."""

    def scenario(steps: Steps) -> None:
        for step in range(6):
            steps.note({"out": steps.forward(make_maps(step))})

    assert compare(device, scenario) == {"interpreted": 3, "recorded": 3}


def test_prediction(device: EmulatedCuda) -> None:
    def scenario(steps: Steps) -> None:
        steps.module.eval()
        for step in range(4):
            with torch.no_grad() if step < 3 else torch.inference_mode():
                steps.note({"out": steps.forward(make_maps(step))})
        steps.module.train()
        with torch.no_grad():
            for step in range(3):
                steps.note({"out": steps.forward(make_maps(step))})
        steps()

    assert compare(device, scenario) == {"interpreted": 5, "recorded": 2, "repeated": 2}


def test_other_gradients(device: EmulatedCuda) -> None:
    """Another layout or set of wanted gradients than recorded is interpreted; then it is recorded instead."""

    def scenario(steps: Steps) -> None:
        settle(steps)
        for step in range(3):
            x = make_maps(step)
            out = steps.forward(x)
            (out * out).sum().backward()
            steps.note({"x": x.grad})
        for step in range(2):
            steps(make_maps(step).detach())

    assert compare(device, scenario)["repeated"] == 3


def test_parameter_changed_before_backward(device: EmulatedCuda) -> None:
    """An error, as after an interpreted forward pass."""
    steps = Steps()
    settle(steps)
    x = make_maps()
    out = steps.forward(x)
    with torch.no_grad():
        steps.module.conv.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        steps.backward(x, out)
    del out
    steps()
    assert steps.counts["repeated"] == 3


def test_second_backward(device: EmulatedCuda) -> None:
    steps = Steps()
    settle(steps)
    x = make_maps()
    out = steps.forward(x)
    steps.backward(x, out)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        steps.backward(x, out)


def test_double_backward_is_refused(device: EmulatedCuda) -> None:
    steps = Steps()
    settle(steps)
    x = make_maps()
    (gradient,) = torch.autograd.grad(steps.forward(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


def test_what_observes_steps_sees_them(device: EmulatedCuda) -> None:
    """Hooks on saved tensors, observers of the backend, modes of torch: steps are interpreted there."""
    seen: list[object] = []

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            seen.append(function)
            return function(*arguments, **(named or {}))

    regions = [
        lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: (seen.append(x), x)[1], lambda x: x),
        lambda: device.observed_by(lambda name, cost: seen.append(name)),
        Mode,
    ]
    steps = Steps()
    settle(steps)
    for region in regions:
        seen.clear()
        with region():
            steps()
        assert seen
    assert "repeated" not in steps.counts
    steps()
    assert steps.counts["repeated"] == 2


def test_several_sizes(device: EmulatedCuda) -> None:
    """Eight kinds of steps are remembered."""
    sizes = [(4, 2 * width) for width in range(1, 10)]

    def scenario(steps: Steps) -> None:
        for size in [*sizes[:2] * 4, *sizes, sizes[0]]:
            steps(make_maps(size=size))

    assert compare(device, scenario)["repeated"] == 2 * (2 * 2 + 2)


def test_release(device: EmulatedCuda) -> None:
    def scenario(steps: Steps) -> None:
        for _ in range(2):
            for _ in range(3):
                steps()
            steps.workspace.release()
            assert steps.workspace.resident == 0

    assert compare(device, scenario) == {"interpreted": 4, "recorded": 4, "repeated": 4}


def test_copies_have_no_recordings(device: EmulatedCuda) -> None:
    steps = Steps()
    for _ in range(3):
        steps()
    for twin in (copy.deepcopy(steps.workspace), pickle.loads(pickle.dumps(steps.workspace))):
        assert not twin.recordings.counts and twin.resident == 0
        steps.workspace = twin
        settle(steps)
        assert steps.counts == {"interpreted": 2, "recorded": 2}


def test_failed_launch(device: EmulatedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises, in forward or backward; the next step is right."""

    def scenario(steps: Steps) -> None:
        settle(steps)
        if device.repeats_steps:
            for passed in (0, 1):
                fail_after(passed)
                state = copy.deepcopy(steps.module.state_dict())
                with pytest.raises(RuntimeError, match="a launch failed"):
                    steps(make_maps())
                monkeypatch.undo()
                steps.module.load_state_dict(state)
        steps()

    def fail_after(passed: int) -> None:
        remaining = [passed * repeats_of_a_pass]
        repeat = device.repeat

        def failing(*arguments: object) -> None:
            if remaining[0] == 0:
                raise RuntimeError("a launch failed")
            remaining[0] -= 1
            repeat(*arguments)

        monkeypatch.setattr(device, "repeat", failing)

    repeats_of_a_pass = 1
    versions = "version of"
    expected, actual = Steps(), Steps()
    device.repeats_steps = False
    try:
        scenario(expected)
    finally:
        device.repeats_steps = True
    scenario(actual)
    for name, tensor in expected.results.items():
        if versions not in name:
            assert_same_bits(actual.results[name], tensor, name)
    assert actual.counts["repeated"] >= 2


def test_threads_with_one_workspace(device: EmulatedCuda) -> None:
    """Each thread's steps are its own, whichever of them gets the arena."""
    expected = Steps()
    device.repeats_steps = False
    try:
        for _ in range(8):
            expected()
    finally:
        device.repeats_steps = True
    workers = [Steps() for _ in range(3)]
    for worker in workers:
        worker.workspace = workers[0].workspace
    errors: list[BaseException] = []

    def work(steps: Steps) -> None:
        try:
            for _ in range(8):
                steps()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for worker in workers:
        for name, tensor in expected.results.items():
            assert_same_bits(worker.results[name], tensor, name)


def test_no_memory_for_a_block(device: EmulatedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of this size are interpreted from then on, and those of others take no more than before."""
    sizes: list[int] = []
    limit = [1 << 40]

    def limited(size: int, device: torch.device) -> Tensor:
        sizes.append(size)
        if size > limit[0]:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return torch.empty(size, dtype=torch.uint8, device=device)

    def scenario(steps: Steps) -> None:
        large, small = (16, 30), (4, 6)
        limit[0] = 1 << 40
        for size in (small, small, large, large):
            steps(make_maps(size=size))
        limit[0] = steps.workspace.resident
        steps(make_maps(size=large))
        for size in (large, small, large):
            steps(make_maps(size=size))

    monkeypatch.setattr(workspace, "fresh_buffer", limited)
    counts = compare(device, scenario)
    assert sum(size > limit[0] for size in sizes) == 1
    assert counts == {"interpreted": 10, "recorded": 4, "repeated": 2}


@pytest.mark.parametrize("change", [Tensor.relu_, Tensor.exp_], ids=["relu", "exp"])
def test_unknown_operator_that_writes(change: Callable[[Tensor], Tensor]) -> None:
    """It gives a view of its argument, but is no view."""
    recorder = Recorder()
    x = torch.zeros(4)
    recorder.add_tensors([x])
    with recorder.recording():
        x.view(2, 2).t()
        assert recorder.failure is None
        change(x)
    assert recorder.failure is not None


def test_torch_that_increments_one_version_at_a_time(device: EmulatedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """As releases before the one that takes several tensors do."""
    increment = torch.autograd.graph.increment_version

    def of_one(tensor) -> None:  # without annotations, as in some of them
        if not isinstance(tensor, Tensor):
            raise RuntimeError("increment_version expect a Tensor as input")
        increment(tensor)

    assert call_recording._increments_several()
    monkeypatch.setattr(torch.autograd.graph, "increment_version", of_one)
    assert not call_recording._increments_several()
    monkeypatch.setattr(call_recording, "_INCREMENTS_SEVERAL", False)

    def scenario(steps: Steps) -> None:
        for _ in range(3):
            steps()

    assert compare(device, scenario)["repeated"] == 2


def test_memory_in_a_cuda_graph(device: EmulatedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays as it is when later steps are repeated in a larger block, until the workspace is released."""
    steps = Steps()
    settle(steps)
    with monkeypatch.context() as patch:
        patch.setattr(device, "is_capturing", lambda device: True)
        steps.workspace.recordings.clear()
        steps()
    (captured,) = map(weakref.ref, steps.workspace._memory.buffers)
    settle(steps)
    steps(make_maps(size=(32, 32)))
    gc.collect()
    assert captured() is not None and captured() not in steps.workspace._memory.buffers
    steps.workspace.release()
    gc.collect()
    assert captured() is None


def test_tensors_that_share_memory_are_not_recorded() -> None:
    x = torch.zeros(8)
    recorder = Recorder()
    recorder.check_apart([x[:4], x[4:], torch.zeros(3)])
    assert recorder.failure is None
    recorder.check_apart([x[:4], x[2:6]])
    assert recorder.failure == "tensors share memory"


def test_extent_of_tensors() -> None:
    assert extent(torch.empty(0, 3)) == 0
    assert extent(torch.empty(4, 3)[:2]) == 24
    assert extent(torch.empty(4, 3)[:, :2]) == 44
