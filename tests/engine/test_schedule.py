"""The poly schedule."""

import pytest

from ladderseg_fast.engine import poly_learning_rate


def test_values():
    assert poly_learning_rate(5e-4, 0, 100) == 5e-4
    assert poly_learning_rate(5e-4, 75, 100) == pytest.approx(5e-4 * 0.125)
    assert poly_learning_rate(1.0, 1, 2, power=2.0) == 0.25
    assert poly_learning_rate(5e-4, 99, 100) == pytest.approx(5e-7)


@pytest.mark.parametrize("step", [-1, 10])
def test_step_out_of_range(step):
    with pytest.raises(ValueError, match="step must be 0 to 9"):
        poly_learning_rate(1.0, step, 10)
