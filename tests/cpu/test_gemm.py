"""gemm.h: a register block is the sums that a double loop makes, and nothing beside it is touched."""

import numpy as np
import pytest
from cpu.headers import Headers

#: The second is longer than any part that the convolutions sum at once.
DEPTHS = [0, 1, 2, 7, 200]


def expected_sums(a: np.ndarray, panel: np.ndarray) -> np.ndarray:
    """sum_k a[i, k] * panel[k, j] in float64."""
    result = np.zeros((a.shape[0], panel.shape[1]))
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            result[i] += a[i, k].astype(np.float64) * panel[k].astype(np.float64)
    return result


@pytest.mark.parametrize("rows", [0, 1, 8])
@pytest.mark.parametrize("transposed", [False, True], ids=["rows of A", "columns of A"])
@pytest.mark.parametrize("accumulate", [False, True], ids=["overwrites", "adds"])
def test_block(headers: Headers, accumulate: bool, transposed: bool, rows: int) -> None:
    height, columns = rows or headers.call("block_rows"), headers.call("block_columns")
    for depth in DEPTHS:
        # Longer rows than are read.
        stored = headers.random(*(depth, height + 3) if transposed else (height, depth + 3))
        a = stored.T[:height] if transposed else stored[:, :depth]
        steps = (1, height + 3) if transposed else (depth + 3, 1)
        panel = headers.random(depth, columns, seed=1)
        before = headers.random(height + 1, columns + 5, seed=2)
        c = before.copy()
        headers.call("multiply_block", accumulate, rows, depth, stored, *steps, panel, c, columns + 5)
        sums = expected_sums(a, panel) + (before[:height, :columns] if accumulate else 0)
        headers.assert_near(c[:height, :columns], sums, terms=depth + 1)
        assert np.array_equal(c[height], before[height]) and np.array_equal(c[:, columns:], before[:, columns:])


def test_gathered_elements(headers: Headers) -> None:
    rows, columns = headers.call("block_rows"), headers.call("block_columns")
    a, panel = headers.random(100), headers.random(9, columns, seed=1)
    offset = np.array([0, 50, 3, 3, 81, 20, 7, 64, 33])
    c = headers.empty(rows, columns)
    headers.call("multiply_gathered", 9, a, offset, panel, c, columns)
    gathered = np.stack([a[offset + i] for i in range(rows)])
    headers.assert_near(c, expected_sums(gathered, panel), terms=9)


def test_nan_and_infinity_stay_in_their_row(headers: Headers) -> None:
    rows, columns = headers.call("block_rows"), headers.call("block_columns")
    a, panel, c = headers.random(rows, 5), headers.random(5, columns, seed=1), headers.empty(rows, columns)
    a[1, 3] = np.nan
    headers.call("multiply_block", False, 0, 5, a, 5, 1, panel, c, columns)
    assert np.isnan(c[1]).all() and np.isfinite(np.delete(c, 1, axis=0)).all()
