"""transpose.h: rows become columns, missing rows are zero, and nothing beside them is touched."""

import numpy as np
import pytest
from cpu.headers import Headers


@pytest.mark.parametrize("columns", [0, 1, 3, 16, 37, 200])
def test_transpose(headers: Headers, columns: int) -> None:
    lanes = headers.call("lanes")
    for rows in range(lanes + 1):
        # Longer rows than are read and written.
        numbers, to = headers.random(lanes, columns + 3), headers.empty(columns + 1, lanes + 5)
        headers.call("transpose", numbers, columns + 3, rows, columns, to, lanes + 5)
        assert np.array_equal(to[:columns, :rows], numbers[:rows, :columns].T)
        assert not to[:columns, rows:lanes].any()
        assert np.isnan(to[columns]).all() and np.isnan(to[:, lanes:]).all()
