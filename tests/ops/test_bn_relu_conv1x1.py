import pytest
import torch
from support.bn_operator_suite import BnConvOperatorSuite
from support.comparison import assert_near
from support.devices import tensor_cores_only
from support.operator_suite import evaluate

from ladderseg_fast.ops.backend import backend_of


class TestBnReluConv1x1(BnConvOperatorSuite):
    """Shapes are (N, C, H, W, M)."""

    name = "bn_relu_conv1x1"
    shapes = [
        (1, 1, 1, 1, 1),
        (1, 3, 1, 1, 19),
        (4, 17, 1, 1, 1),
        (1, 33, 5, 7, 19),
        (3, 130, 3, 2, 128),
        (2, 3, 37, 41, 128),
        (1, 64, 1, 1300, 1),
        (1, 300, 2, 3, 130),
        (2, 520, 3, 5, 17),
        (2, 72, 9, 16, 128),  # whole 16-byte rows in every type: the way of tensor cores
        (1, 200, 11, 13, 40),
        (1, 64, 3, 50, 264),
        (2, 72, 15, 19, 128),  # several parts of the pixels, the last tile and the last channels not full
        (0, 3, 4, 4, 19),
    ]
    small = (2, 3, 3, 2, 4)
    large = (2, 33, 37, 41, 19)

    @tensor_cores_only
    @pytest.mark.parametrize("channels", [(64, 128), (96, 19), (36, 200)], ids=str)
    def test_tf32(self, channels: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
        """Where torch allows it, products of float32 are done by tensor cores, with inputs of 10 bits."""
        monkeypatch.setattr(backend_of(torch.device("cpu")), "allow_tf32", True)
        arguments = self.prepared((2, channels[0], 9, 16, channels[1]))
        actual = evaluate(self.operator(), arguments)
        exact = evaluate(self.reference(), arguments)
        for key in exact:
            assert_near(actual[key], exact[key], key, tolerance=2e-3)
        assert not torch.equal(actual["output 0"], exact["output 0"])
        monkeypatch.setattr(backend_of(torch.device("cpu")), "allow_tf32", False)
        assert_near(evaluate(self.operator(), arguments)["output 0"], exact["output 0"], "in float32", tolerance=2e-6)
