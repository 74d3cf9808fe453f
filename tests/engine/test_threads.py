"""Work in threads: order, bounds, errors, and the end of the threads."""

import threading
import time
from collections.abc import Iterator

import pytest

from ladderseg_fast.engine.threads import map_ahead, map_behind

MAPS = pytest.mark.parametrize("both", [lambda f, i: map_ahead(f, i, ahead=3, threads=2), map_behind])


def threads_end(before: int) -> bool:
    return threading.active_count() == before


@MAPS
def test_results_are_in_the_order_of_the_items(both) -> None:
    def late(item: int) -> int:
        time.sleep(0.003 * (item % 3 == 0))
        return item

    before = threading.active_count()
    assert list(both(late, iter(range(40)))) == list(range(40))
    assert threads_end(before)
    assert list(both(late, [])) == []


@MAPS
def test_an_error_is_raised_in_its_turn(both) -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    before, results = threading.active_count(), []
    with pytest.raises(ValueError, match="two"):
        for result in both(fail, range(9)):
            results.append(result)
    assert results == [0, 1]
    assert threads_end(before)


def test_an_error_of_the_items_is_raised_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("no more")

    results = []
    with pytest.raises(OSError, match="no more"):
        for result in map_ahead(lambda item: item, items(), ahead=5, threads=3):
            results.append(result)
    assert results == [0, 1]


@pytest.mark.parametrize("ahead", [1, 4])
def test_no_more_than_asked_for_are_read_ahead(ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = map_ahead(lambda item: item, items(), ahead, threads=3)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    deadline = time.monotonic() + 5
    while len(taken) < 3 + ahead and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(taken) == 3 + ahead
    before = threading.active_count()
    results.close()
    assert threads_end(before - 3)
    assert len(taken) == 3 + ahead


def test_results_behind_are_bounded() -> None:
    gate, taken = threading.Event(), []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            if len(taken) == 4:  # two threads work, and one item more waits
                threading.Timer(0.05, gate.set).start()
            yield item

    results = map_behind(lambda item: gate.wait(5), items(), threads=2)
    assert next(results)
    assert len(taken) == 4
    results.close()
