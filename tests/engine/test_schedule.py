"""The poly schedule and its warm-up."""

import pytest

from ladderseg_fast.engine import learning_rate_factor


def test_poly():
    assert learning_rate_factor(0, 100) == 1.0
    assert learning_rate_factor(75, 100) == pytest.approx(0.125)
    assert learning_rate_factor(1, 2, power=2.0) == 0.25
    assert learning_rate_factor(99, 100) == pytest.approx(1e-3)


def test_warm_up_grows_linearly_to_the_schedule():
    factors = [learning_rate_factor(step, 100, power=0.0, warmup_steps=4) for step in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert learning_rate_factor(1, 100, warmup_steps=4) == pytest.approx(0.5 * 0.99**1.5)


@pytest.mark.parametrize("step", [-1, 10])
def test_step_out_of_range(step):
    with pytest.raises(ValueError, match="step must be 0 to 9"):
        learning_rate_factor(step, 10)
