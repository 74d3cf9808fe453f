"""Where maps lie."""

import pytest
import torch

from ladderseg_fast.lean import Workspace
from ladderseg_fast.lean.arena import Placement, Recording

LIKE = torch.zeros(1)
MIB = 1 << 20


def recorded(events: list[int]) -> Recording:
    """From sizes of maps taken, and -n for the map with number n - 1 given back."""
    recording = Recording()
    for event in events:
        if event > 0:
            recording.take(event)
        else:
            recording.give_back(-event - 1)
    return recording


@pytest.mark.parametrize("seed", range(5))
def test_maps_in_use_together_do_not_overlap(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    live, events, count = [], [], 0
    for _ in range(120):
        if live and torch.rand((), generator=generator) < 0.5:
            events.append(-live.pop(int(torch.randint(len(live), (), generator=generator))))
        else:
            count += 1
            live.append(count)
            events.append(int(torch.randint(1, 100, (), generator=generator)))
    recording = recorded(events)
    placement = Placement.of(recording)
    ranges = [range(start, start + size) for start, size in zip(placement.starts, placement.sizes)]
    assert max(r.stop for r in ranges) == placement.size
    for i, (begin, end) in enumerate(recording.spans):
        for j in range(i):
            together = recording.spans[j][0] < end and begin < recording.spans[j][1]
            assert not together or not set(ranges[i]) & set(ranges[j])


def test_a_placement_is_no_larger_than_what_is_in_use_at_once() -> None:
    """In a case where placing maps as they come leaves a gap."""
    events = [4, 8, -1, 6, -2, -3]
    assert Placement.of(recorded(events)).size == 14
    assert Placement.of(recorded([])).size == 0


def step(workspace: Workspace, sizes: list[int], key: str = "step") -> list[int]:
    """Take maps of these sizes in MiB, the next before the last is gone; returns their addresses."""
    workspace.begin(key, LIKE.device)
    previous, places = None, []
    for number, size in enumerate(sizes):
        tensor = workspace.take(LIKE, 1, 1, 1, size * MIB // 4).fill_(number)
        if previous is not None:
            assert (previous == number - 1).all()
        places.append(tensor.data_ptr())
        previous = tensor
    return places


def test_the_second_step_follows_a_placement() -> None:
    """From then on every map has its place, and no more memory is taken than two neighbours need."""
    workspace = Workspace()
    sizes = [2, 5, 3, 7, 1, 6]
    step(workspace, sizes)
    second = step(workspace, sizes)
    assert step(workspace, sizes) == second
    assert workspace.resident <= 10 * MIB


def test_another_step_under_the_same_name_is_noticed() -> None:
    workspace = Workspace()
    for sizes in ([2, 5, 3], [2, 4, 9, 1], [2, 5, 3], [1]):
        step(workspace, sizes)
        step(workspace, sizes)


def test_maps_that_stay_longer_than_in_the_step_before() -> None:
    """The third map's place is the first one's, which is still in use."""
    workspace = Workspace()
    sizes = [2, 5, 2]
    for _ in range(2):
        step(workspace, sizes)
    workspace.begin("step", LIKE.device)
    maps = [workspace.take(LIKE, 1, 1, 1, size * MIB // 4).fill_(number) for number, size in enumerate(sizes)]
    assert all((tensor == number).all() for number, tensor in enumerate(maps))


def test_steps_of_two_kinds_alternate() -> None:
    workspace = Workspace()
    for _ in range(3):
        step(workspace, [4, 2, 4], "training")
        step(workspace, [1, 3, 1], "validation")
    assert workspace.resident <= 6 * MIB


def test_a_step_that_begins_before_another_has_ended() -> None:
    workspace = Workspace()
    sizes = [2, 5, 3]
    for _ in range(2):
        step(workspace, sizes)
    held = workspace.take(LIKE, 1, 1, 1, MIB).fill_(-1.0)
    step(workspace, sizes)
    assert (held == -1.0).all()
    del held
    step(workspace, sizes)
