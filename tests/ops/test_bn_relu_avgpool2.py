import pytest
from support.bn_operator_suite import BnOperatorSuite

from ladderseg_fast import ops


class TestBnReluAvgpool2(BnOperatorSuite):
    name = "bn_relu_avgpool2"
    shapes = [
        (1, 1, 2, 2),
        (1, 3, 3, 2),
        (4, 17, 2, 3),
        (1, 33, 5, 7),
        (3, 130, 4, 2),
        (2, 3, 75, 83),
        (1, 64, 2, 2601),
        (0, 3, 4, 4),
    ]
    small = (2, 3, 5, 4)
    large = (2, 33, 75, 83)

    @pytest.mark.parametrize("size", [(1, 4), (4, 1), (1, 1)])
    def test_smaller_than_a_window(self, size: tuple[int, int]) -> None:
        arguments = self.prepared((2, 3, *size), gradients=False)
        with pytest.raises(ValueError, match=r"\bx\b"):
            ops.bn_relu_avgpool2(**arguments)
