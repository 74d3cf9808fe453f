"""The memory that lean steps share."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor

from ladderseg_fast.lean import Workspace
from ladderseg_fast.lean.workspace import _Buffer

LIKE = torch.zeros(1)
PAGE = 4096
MIB = 1 << 20


def take(workspace: Workspace, size: int) -> Tensor:
    """A float32 map of `size` bytes."""
    return workspace.take(LIKE, 1, 1, 1, size // 4)


def span(x: Tensor) -> range:
    return range(x.data_ptr(), x.data_ptr() + x.nbytes)


def test_tensors_in_use_never_overlap() -> None:
    """Whatever comes and goes: what was written stays."""
    generator = torch.Generator().manual_seed(0)
    workspace = Workspace()
    live: dict[int, Tensor] = {}
    for number in range(400):
        size = int(torch.randint(1, 20, (), generator=generator)) * PAGE // 3
        live[number] = take(workspace, size).fill_(float(number))
        if len(live) > 10:
            keys = list(live)
            del live[keys[int(torch.randint(len(keys), (), generator=generator))]]
        for key, tensor in live.items():
            assert (tensor == float(key)).all()


def test_memory_is_reused_and_gaps_are_joined() -> None:
    workspace = Workspace()
    first, second = take(workspace, 4 * MIB), take(workspace, 4 * MIB)
    whole = workspace.take(LIKE, 1, 1, 1, 8 * MIB // 4)
    place = whole.data_ptr()
    del whole
    halves = [take(workspace, 4 * MIB), take(workspace, 4 * MIB)]
    assert sorted(half.data_ptr() for half in halves) == [place, place + 4 * MIB]
    del halves
    assert take(workspace, 8 * MIB).data_ptr() == place
    assert not set(span(first)[:: 4 * PAGE]) & set(span(second)[:: 4 * PAGE])


def test_no_more_memory_than_was_in_use_at_once() -> None:
    """A gap that is too small for the next tensor gives its pages back, and can be used again."""
    workspace = Workspace()
    for _ in range(3):
        large = take(workspace, 16 * MIB).fill_(1.0)
        assert workspace.resident <= 16 * MIB
        del large
        small = [take(workspace, 5 * MIB).fill_(2.0) for _ in range(3)]
        del small[1]
        medium = take(workspace, 6 * MIB).fill_(3.0)
        assert workspace.resident <= 16 * MIB
        assert all((tensor == 2.0).all() for tensor in small)
        assert (medium == 3.0).all()
        del medium, small


def test_a_place_is_taken_only_if_all_of_it_is_free() -> None:
    buffer = _Buffer(torch.empty(4 * PAGE, dtype=torch.uint8))
    buffer.take(0, 4 * PAGE)
    buffer.give_back(PAGE, PAGE)
    assert not buffer.take_at(PAGE, 2 * PAGE)
    assert not buffer.take_at(0, 2 * PAGE)
    assert buffer.take_at(PAGE, PAGE)
    assert not buffer.take_at(PAGE, PAGE)


def test_release_keeps_what_is_in_use() -> None:
    workspace = Workspace()
    kept = take(workspace, MIB).fill_(1.0)
    freed = take(workspace, 8 * MIB)
    del freed
    workspace.release()
    assert workspace.resident == MIB
    assert (kept == 1.0).all()
    del kept
    workspace.release()
    assert workspace.resident == 0


def test_constants_stay_until_release() -> None:
    """CUDA graphs may read them, even if other programs have asked for longer ones since."""
    workspace = Workspace()

    def constant(count: int) -> torch.Tensor:
        return workspace.constant(1.0, count, torch.float32, torch.device("cpu"))

    first = weakref.ref(constant(4))
    assert constant(8).tolist() == [1.0] * 8
    gc.collect()
    assert first() is not None and constant(4) is first()
    workspace.release()
    gc.collect()
    assert first() is None


def test_spread_pixels() -> None:
    """Pixels of a power of two of bytes are moved apart; others are not."""
    workspace = Workspace()
    spread = workspace.take(LIKE, 2, 256, 3, 5, spread=True)
    assert spread.shape == (2, 256, 3, 5)
    assert spread.stride(3) == 272
    assert spread.stride(1) == 1
    assert workspace.take(LIKE, 2, 100, 3, 5, spread=True).stride(3) == 100
    assert workspace.take(LIKE, 2, 256, 3, 5).stride(3) == 256


def test_copies_are_empty() -> None:
    workspace = Workspace()
    tensor = take(workspace, MIB)
    for other in (copy.deepcopy(workspace), pickle.loads(pickle.dumps(workspace))):
        assert other.resident == 0
    assert workspace.resident == MIB
    del tensor


def test_running_out_of_memory_is_an_error_and_leaves_it_usable() -> None:
    workspace = Workspace()
    with pytest.raises(RuntimeError, match="memory"):
        workspace.take(LIKE, 1, 1, 1 << 25, 1 << 25)
    gc.collect()
    assert take(workspace, MIB).fill_(1.0).sum() == MIB // 4
    workspace.release()
    assert workspace.resident == 0


@pytest.mark.parametrize("name", ["take", "give_back"])
def test_interrupt_in_its_accounts_loses_no_memory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Ctrl-C raises in any line. What is in use stays, and what comes later takes no more than it would."""
    workspace = Workspace()
    kept, gone = take(workspace, MIB).fill_(1.0), take(workspace, MIB)
    original = getattr(_Buffer, name)

    def interrupted(self: _Buffer, start: int, size: int) -> None:
        original(self, start, size)
        raise KeyboardInterrupt

    del gone
    with monkeypatch.context() as patch:
        patch.setattr(_Buffer, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            take(workspace, MIB // 2)
    others = [take(workspace, MIB).fill_(2.0) for _ in range(2)]
    assert (kept == 1.0).all()
    del kept, others
    assert workspace.in_use == 0
    assert workspace.resident == 2 * MIB


def test_owner_of_an_arena_has_no_other_even_after_an_error() -> None:
    """A recorded step's forward pass leaves places that its backward pass reads."""
    workspace, owner = Workspace(), object()
    arena = workspace.take_arena(owner, MIB, LIKE.device)
    with pytest.raises(RuntimeError, match="memory"):
        workspace.take(LIKE, 1, 1, 1 << 25, 1 << 25)
    assert workspace.take_arena(owner, MIB, LIKE.device) is None
    del arena
    assert workspace.take_arena(owner, MIB, LIKE.device) is not None
