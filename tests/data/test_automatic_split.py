"""Which images of a folder without splits are held out."""

import pytest

from ladderseg_fast.data.automatic_split import held_out

pytestmark = pytest.mark.real_use

NAMES = [f"frame_{k:05}" for k in range(5000)]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_about_the_share_of_all(share):
    chosen = held_out(NAMES, share)
    assert chosen < set(NAMES)
    assert abs(len(chosen) / len(NAMES) - share) < 4 * (share * (1 - share) / len(NAMES)) ** 0.5


def test_it_is_the_names_that_decide():
    assert held_out(NAMES[::-1]) == held_out(NAMES)
    assert held_out(NAMES[:2500]) == held_out(NAMES) & set(NAMES[:2500])
    assert held_out(NAMES, 0.1) < held_out(NAMES, 0.2)
    assert held_out(NAMES, seed=1) != held_out(NAMES, seed=0)


@pytest.mark.parametrize("share", [1e-6, 0.1, 1 - 1e-6])
@pytest.mark.parametrize("count", [2, 3])
def test_neither_split_is_empty(count, share):
    assert 0 < len(held_out(NAMES[:count], share)) < count


def test_rejects():
    with pytest.raises(ValueError, match="val_share must be above 0 and below 1, got 1.0"):
        held_out(NAMES, 1.0)
    with pytest.raises(ValueError, match="1 image cannot be split"):
        held_out(NAMES[:1])
