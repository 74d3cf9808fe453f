import pytest
import torch
from support.bn_operator_suite import VECTORS, BnConvOperatorSuite, bn_arguments
from support.comparison import assert_near
from support.devices import cpu_only, cuda_only, tensor_cores_only
from support.operator_suite import evaluate, random
from torch import Tensor

from ladderseg_fast.ops import layout, reference
from ladderseg_fast.ops.arguments import Correction, Gradient, Norm
from ladderseg_fast.ops.backend import backend_of, real_dtype
from ladderseg_fast.ops.bn_relu_conv1x1 import (
    bn_relu_conv1x1_backward,
    bn_relu_conv1x1_forward,
    bn_relu_conv1x1_weight,
)


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
        (1, 530, 9, 13, 70),  # on a CPU several panels of outputs wait for the sums over the last input channels
        (2, 72, 9, 16, 128),  # whole 16-byte rows in every type: the way of tensor cores
        (1, 200, 11, 13, 40),
        (1, 64, 3, 50, 264),
        (2, 72, 15, 19, 128),  # several parts of the pixels, the last tile and the last channels not full
        (0, 3, 4, 4, 19),
    ]
    small = (2, 3, 3, 2, 4)
    large = (2, 33, 37, 41, 19)

    def test_vectors_at_any_address(self) -> None:
        """Vectors that are not aligned to 16 bytes, while all rows are whole chunks of them."""
        for outputs, dtype in ((72, torch.float32), (72, torch.float16), (136, torch.float16)):
            if dtype not in backend_of(torch.device("cpu")).dtypes:
                continue
            arguments = self.prepared((1, 40, 9, 15, outputs), dtype)
            for key in VECTORS:
                arguments[key] = _misaligned(arguments[key].detach()).requires_grad_()
            self.check(arguments)

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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)], ids=str)
@pytest.mark.parametrize(("channels", "outputs"), [(40, 19), (40, 70), (530, 70)])
def test_statistics_of_the_output(channels: int, outputs: int, dtype: torch.dtype, tolerance: float) -> None:
    """Of several tiles of pixels, the last not full, and several panels of outputs."""
    arguments = bn_arguments(random(1, channels, 9, 23, seed=0, low=-2.0, high=2.0))
    x = layout.pixel_major(arguments["x"].to(dtype))
    norm = Norm.of(*(arguments[key].to(dtype) for key in VECTORS))
    # The means are larger than the deviations.
    weight = random(outputs, channels, 1, 1, seed=6, low=0.9, high=1.0).to(dtype)
    out = layout.empty(x, 1, outputs, 9, 23)
    statistics = bn_relu_conv1x1_forward(x, norm, weight, out, True)
    exact = torch.stack([out.double().mean((0, 2, 3)), out.double().var((0, 2, 3), unbiased=False)])
    assert_near(statistics, exact, "statistics", tolerance)


@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "misaligned"])
@pytest.mark.parametrize("outputs", [72, 136])
def test_backward_with_a_deferred_correction(outputs: int, aligned: bool) -> None:
    """In one pass over the maps or in two: grad - constant - slope * (y - mean) takes the gradient's place."""
    check_deferred_correction(outputs, aligned, torch.float32, 1e-5)


@cuda_only
@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "misaligned"])
@pytest.mark.parametrize("outputs", [72, 136])
def test_backward_with_a_deferred_correction_in_float16(outputs: int, aligned: bool) -> None:
    check_deferred_correction(outputs, aligned, torch.float16, 4e-3)


def check_deferred_correction(outputs: int, aligned: bool, dtype: torch.dtype, tolerance: float) -> None:
    arguments = bn_arguments(random(2, 40, 9, 15, seed=0, low=-2.0, high=2.0))
    real = real_dtype(dtype)
    place = torch.clone if aligned else _misaligned
    x = layout.pixel_major(arguments["x"].to(dtype))
    norm = Norm.of(*(place(arguments[key].to(real)) for key in VECTORS))
    weight = random(outputs, 40, 1, 1, seed=6).to(dtype)
    grad, other = (layout.pixel_major(random(2, outputs, 9, 15, seed=seed).to(dtype)) for seed in (7, 8))
    correction = [place(random(outputs, seed=10 + i).to(real)) for i in range(3)]
    grad_x = layout.empty(x, *x.shape)
    gradient = Gradient(grad, other, Correction(*correction))
    grad_weight, sums = bn_relu_conv1x1_backward(gradient, x, norm, weight, grad_x)

    mean, constant, slope = (vector.double().view(1, -1, 1, 1) for vector in correction)
    exact_x, exact_weight = (value.detach().double().requires_grad_() for value in (x, weight))
    out = reference.bn_relu_conv1x1(exact_x, *(arguments[key].to(real).double() for key in VECTORS), exact_weight)
    out.backward(grad.double() - constant - slope * (other.double() - mean))
    assert_near(grad_x.double(), exact_x.grad, "gradient of x", tolerance)
    assert_near(grad_weight.double(), exact_weight.grad, "gradient of weight", tolerance)
    masked = exact_x.grad / norm.scale.double().view(1, -1, 1, 1)
    assert_near(sums.masked, masked.sum(dim=(0, 2, 3)), "sum of m", tolerance)
    centred = masked * (x.double() - norm.mean.double().view(1, -1, 1, 1))
    assert_near(sums.centred, centred.sum(dim=(0, 2, 3)), "sum of m * (x - mean)", tolerance)


@cpu_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("outputs, channels, height", [(1, 1, 1), (5, 33, 7), (40, 40, 0), (72, 70, 31)])
def test_weight_alone(outputs: int, channels: int, height: int, dtype: torch.dtype) -> None:
    """Products of deviations are exact where means are large: nothing is subtracted after it has been added up."""
    arguments = bn_arguments(random(2, channels, height, 15, seed=0, low=-2.0, high=2.0))
    norm = Norm.of(*(arguments[key].to(dtype) for key in VECTORS))
    norm.shift += 1000.0
    x, grad = (layout.pixel_major(random(2, c, height, 15, seed=c).to(dtype)) for c in (channels, outputs))
    zeros, constant = torch.zeros(outputs, dtype=dtype), torch.full((outputs,), 0.5, dtype=dtype)
    gradient = Gradient(grad, grad, Correction(zeros, constant, zeros))
    y = reference.bn_relu(x.double(), norm.mean.double(), norm.scale.double(), None, norm.shift.double())
    for centre in (None, norm.shift):
        found = bn_relu_conv1x1_weight(gradient, x, norm, centre)
        less = y if centre is None else y - centre.double().view(1, -1, 1, 1)
        expected = torch.einsum("nmhw,nchw->mc", grad.double() - 0.5, less)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        assert_near(found.double().flatten(1), expected, f"weight with centre {centre is not None}", tolerance)


def _misaligned(vector: Tensor) -> Tensor:
    """The same values at an address that is no multiple of 16."""
    return torch.cat([vector[:1], vector])[1:]
