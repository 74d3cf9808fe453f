from collections.abc import Mapping

import pytest
import torch
from support.bn_operator_suite import BnConvOperatorSuite
from support.comparison import FLOAT64_TOLERANCE, FLOORS, assert_near
from support.devices import CPU, cpu_only, cuda_only, tensor_cores_only
from support.operator_suite import Arguments, evaluate, random, threads
from torch import Tensor

from ladderseg_fast.ops import layout, reference
from ladderseg_fast.ops.arguments import Correction, Gradient, Norm
from ladderseg_fast.ops.backend import Cpu, backend_of, real_dtype
from ladderseg_fast.ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ladderseg_fast.ops.cost import Cost


class TestBnReluConv3x3(BnConvOperatorSuite):
    """Shapes are (N, C, H, W, M, dilation)."""

    name = "bn_relu_conv3x3"
    shapes = [
        (1, 1, 1, 1, 1, 1),
        (1, 3, 1, 1, 19, 2),
        (4, 17, 2, 1, 1, 1),
        (1, 33, 5, 7, 19, 1),
        (3, 130, 3, 2, 33, 1),
        (2, 3, 37, 41, 128, 1),
        (2, 17, 9, 13, 32, 2),
        (1, 8, 11, 4, 3, 3),
        (1, 5, 3, 3, 3, 5),  # every tap but the middle one is in the padding
        (1, 64, 1, 1300, 1, 1),
        (1, 600, 3, 4, 35, 1),
        (2, 72, 9, 16, 32, 1),  # whole 16-byte rows in every type: the way of tensor cores
        (1, 40, 13, 11, 48, 2),
        (2, 64, 3, 50, 136, 1),
        (1, 5, 16, 64, 33, 1),  # patches of the ordinary units: whole ones,
        (1, 3, 17, 193, 32, 1),  # a pixel more, and
        (1, 9, 15, 63, 128, 1),  # a pixel fewer
        (1, 33, 8, 8, 32, 1),  # small patches, likewise
        (2, 128, 9, 9, 1, 1),
        (1, 1, 7, 7, 33, 1),
        (1, 16, 17, 33, 32, 4),
        (1, 32, 16, 32, 32, 1),  # whole patches of tensor cores, and of the weight gradient,
        (1, 40, 17, 33, 40, 1),  # a pixel more,
        (2, 24, 15, 31, 8, 2),  # and a pixel fewer
        (1, 8, 20, 1, 32, 4),
        (1, 8, 1, 150, 40, 1),
        (1, 16, 60, 70, 16, 1),  # many patches in many parts
        (1, 40, 9, 17, 72, 1),  # patches of tensor cores: a pixel more, slices and columns that are not whole
        (1, 136, 7, 15, 128, 2),  # a pixel fewer
        (1, 8, 5, 3, 8, 7),  # every tap but the middle one is in the padding
        (0, 3, 4, 4, 19, 1),
    ]
    small = (2, 3, 3, 4, 4, 1)
    large = (2, 33, 37, 41, 19, 2)

    @property
    def floors(self) -> Mapping[torch.dtype, int]:
        """On the CPU the tiles and filters of Winograd's filtering are rounded after their transform, as nothing in
        plain PyTorch is. Of a map with one column, whose results are sums over three taps, that is most of the error.
        """
        return FLOORS | {torch.bfloat16: 2} if isinstance(backend_of(torch.device(CPU)), Cpu) else FLOORS

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        *size, outputs, dilation = shape
        weight = random(outputs, size[1], 3, 3, seed=6)
        return super().arguments((*size, outputs)) | {"weight": weight, "dilation": dilation}

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
    @pytest.mark.parametrize(("size", "farther"), [((12, 14), 1), ((24, 28), 3)], ids=["2x2", "4x4"])
    def test_nan_and_infinity_propagate(self, value: float, size: tuple[int, int], farther: int) -> None:
        """They reach all results that they reach in plain PyTorch, and else only their tile's."""
        arguments = self.arguments((1, 3, *size, 4, 1))
        arguments["x"][0, 1, 5, 6] = value
        prepared = self.prepared((1, 3, *size, 4, 1), x=arguments["x"])
        actual, expected = (evaluate(function, prepared) for function in (self.operator(), self.reference()))
        for key, plain in expected.items():
            assert (~actual[key].isfinite() | plain.isfinite()).all(), key
            if plain.dim() == 4 and key != "gradient of weight":
                changed = (~actual[key].isfinite()).any(dim=1)[0].nonzero()
                assert all(
                    4 - farther <= y <= 6 + farther and 5 - farther <= x <= 7 + farther for y, x in changed.tolist()
                ), key

    @tensor_cores_only
    @pytest.mark.parametrize("size", [(2, 64, 9, 16, 32, 1), (1, 36, 7, 11, 48, 2)], ids=str)
    def test_tf32(self, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        """Where torch allows it, products of float32 are done by tensor cores, with inputs of 10 bits."""
        monkeypatch.setattr(backend_of(torch.device("cpu")), "allow_tf32", True)
        arguments = self.prepared(size)
        actual = evaluate(self.operator(), arguments)
        exact = evaluate(self.reference(), arguments)
        for key in exact:
            assert_near(actual[key], exact[key], key, tolerance=2e-3)
        assert not torch.equal(actual["output 0"], exact["output 0"])
        monkeypatch.setattr(backend_of(torch.device("cpu")), "allow_tf32", False)
        assert_near(evaluate(self.operator(), arguments)["output 0"], exact["output 0"], "in float32", tolerance=2e-6)

    @pytest.mark.real_use
    @pytest.mark.parametrize("dilation", [1 << 31, (1 << 63) - 1])
    @pytest.mark.parametrize("size", [(2, 3, 4, 7, 5), (1, 3, 9, 1, 5)], ids=str)
    def test_dilation_beyond_the_map(self, size: tuple[int, ...], dilation: int) -> None:
        """Whatever it is, every tap but the middle one is outside: the same as the size of the map."""
        arguments = self.prepared((*size, max(size[2:4])))
        expected = evaluate(self.reference(), arguments)
        for key, actual in evaluate(self.operator(), arguments | {"dilation": dilation}).items():
            assert_near(actual, expected[key], key, tolerance=1e-5)

    @pytest.mark.parametrize("dilation", [0, -1])
    def test_dilation_is_positive(self, dilation: int) -> None:
        with pytest.raises(ValueError, match=r"\bdilation\b"):
            self.operator()(**self.prepared(self.small) | {"dilation": dilation})


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("rows", [(0, 3), (3, 8), (4, 5), (8, 11)], ids=str)
@pytest.mark.parametrize("size", [(1, 5, 11, 6, 7), (1, 3, 11, 17, 40), (1, 3, 11, 257, 5)], ids=str)
def test_strip_of_rows(size: tuple[int, ...], rows: tuple[int, int], dilation: int) -> None:
    """A strip, of maps that begin at different rows, gives its rows of the whole and its part of every sum.

    With a dilation of 2 the wider sizes have patches without pixels, small and large ones.
    """
    check_strip(rows, dilation, size, torch.float64)


@cpu_only
@pytest.mark.parametrize("team", [1, 2, 3])
def test_team_with_many_channels(team: int) -> None:
    """Members of a team divide the tiles for the weight gradient, or the input channels if each has enough of these."""
    with threads(team):
        check_strip((3, 8), 1, (1, 400, 11, 9, 20), torch.float64)


@cpu_only
@pytest.mark.parametrize(
    ("size", "products"), [((1, 3, 64, 60, 5), 36 * 16 * 15), ((2, 3, 3, 4, 5), 16 * 2 * 2 * 2)], ids=["4x4", "2x2"]
)
def test_operations_are_those_of_the_tiles(size: tuple[int, ...], products: int) -> None:
    """`products` are the multiplications per pair of channels: points of a tile times tiles."""
    *_, outputs = size
    x = layout.pixel_major(random(*size[:4], seed=1).float())
    vectors, weight = [torch.ones(3)] * 4, torch.ones(outputs, 3, 3, 3)
    out = layout.empty(x, size[0], outputs, *size[2:4])
    costs: list[Cost] = []
    with backend_of(x.device).observed_by(lambda kernel, cost: costs.append(cost)):
        bn_relu_conv3x3_forward(x, Norm.of(*vectors), weight, 1, out)
        bn_relu_conv3x3_backward(Gradient(out), x, Norm.of(*vectors), weight, 1, layout.empty(x, *x.shape))
    operations = 2 * products * 3 * outputs
    assert [cost.operations for cost in costs] == [operations, 2 * operations]


@cuda_only
@pytest.mark.parametrize("size", [(2, 16, 11, 6, 24), (2, 8, 11, 7, 40), (3, 5, 11, 3, 7)], ids=str)
def test_strip_of_rows_in_float16(size: tuple[int, ...]) -> None:
    """The same for several images, also in whole 16-byte rows: by tensor cores."""
    check_strip((3, 8), 2, size, torch.float16, 4e-3)


@tensor_cores_only
def test_large_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of 10^5 standard deviations cost no digits, beyond those that tf32 has not."""
    monkeypatch.setattr(backend_of(torch.device("cpu")), "allow_tf32", True)
    arguments = TestBnReluConv3x3().arguments((1, 32, 12, 20, 32, 1))
    deviation, dtype = 0.01, torch.float32
    mean, other_mean = (1000.0 + 100.0 * random(32, seed=seed).to(dtype) for seed in (11, 12))

    def around(values: Tensor, mean: Tensor) -> Tensor:
        return layout.pixel_major((_vector(mean.double()) + deviation * values).to(dtype))

    x = around(arguments["x"], mean)
    other = around(random(1, 32, 12, 20, seed=9), other_mean)
    grad = layout.pixel_major((0.5 + random(1, 32, 12, 20, seed=8)).to(dtype))
    vectors = [mean, torch.full_like(mean, 1 / deviation), *(arguments[key].to(dtype) for key in ("gamma", "beta"))]
    weight = arguments["weight"].to(dtype)
    correction = Correction(other_mean, random(32, seed=13).to(dtype), random(32, seed=14).to(dtype) / deviation)
    grad_weight, _ = bn_relu_conv3x3_backward(
        Gradient(grad, other, correction), x, Norm.of(*vectors), weight, 1, layout.empty(x, *x.shape)
    )
    mean, constant, slope = (
        _vector(values.double()) for values in (correction.mean, correction.constant, correction.slope)
    )
    value = grad.double() - constant - slope * (other.double() - mean)
    exact = x.double(), [vector.double() for vector in vectors], weight.double()
    expected = _gradients(*exact, 1, value, slice(None))
    assert_near(grad_weight.double(), expected["weight"], "gradient of weight", tolerance=5e-4)


def check_strip(
    rows: tuple[int, int],
    dilation: int,
    size: tuple[int, ...],
    dtype: torch.dtype,
    tolerance: float = FLOAT64_TOLERANCE,
) -> None:
    """`size` is (N, C, H, W, M)."""
    first, last = rows
    n, c, h, w, outputs = size
    real = real_dtype(dtype)
    arguments = TestBnReluConv3x3().arguments((n, c, h, w, outputs, dilation))
    x, grad, other = (
        layout.pixel_major(values.to(dtype))
        for values in (arguments["x"], random(n, outputs, h, w, seed=8), random(n, outputs, h, w, seed=9))
    )
    vectors = [arguments[key].to(real) for key in ("mean", "invstd", "gamma", "beta")]
    norm, weight = Norm.of(*vectors), arguments["weight"].to(dtype)
    correction = [random(outputs, seed=10 + i).to(real) for i in range(3)]

    def near(actual: Tensor, expected: Tensor, name: str) -> None:
        assert_near(actual.double(), expected.double(), name, tolerance)

    exact = x.double(), [vector.double() for vector in vectors], weight.double()
    whole = reference.bn_relu_conv3x3(exact[0], *exact[1], exact[2], dilation)
    x_top, grad_top = max(0, first - dilation), max(0, first - 2 * dilation)
    outer = layout.pixel_major(x[:, :, x_top : last + dilation])
    strip = layout.empty(x, n, outputs, last - first, w)
    mean, variance = bn_relu_conv3x3_forward(
        outer, norm, weight, dilation, strip, first_row=first - x_top, statistics=True
    )
    near(strip, whole[:, :, first:last], "strip")
    expected = reference.channel_statistics(strip.double())
    near(mean, expected[0], "mean")
    near(variance, expected[1], "variance")
    bn_relu_conv3x3_forward(outer, norm, weight, dilation, strip, first_row=first - x_top, accumulate=True)
    near(strip, 2.0 * whole[:, :, first:last], "strip on top of itself")

    value = grad - _vector(correction[1]) - _vector(correction[2]) * (other - _vector(correction[0]))
    expected = _gradients(*exact, dilation, value.double(), slice(first, last))
    rows_read = slice(grad_top, last + 2 * dilation)
    gradient = Gradient(
        layout.pixel_major(grad[:, :, rows_read]), layout.pixel_major(other[:, :, rows_read]), Correction(*correction)
    )
    grad_x = layout.empty(x, n, c, last - first, w)
    grad_weight, sums = bn_relu_conv3x3_backward(
        gradient,
        outer,
        norm,
        weight,
        dilation,
        grad_x,
        grad_first_row=first - grad_top,
        first_row=first - x_top,
    )
    near(grad_x, expected["x"], "gradient of x")
    near(grad_weight, expected["weight"], "gradient of weight")
    masked = expected["x"] / _vector(norm.scale)
    near(sums.masked, masked.sum(dim=(0, 2, 3)), "sum of m")
    centred = masked * (x[:, :, first:last] - _vector(norm.mean))
    near(sums.centred, centred.sum(dim=(0, 2, 3)), "sum of m * (x - mean)")


def _gradients(
    x: Tensor, vectors: list[Tensor], weight: Tensor, dilation: int, grad: Tensor, rows: slice
) -> dict[str, Tensor]:
    """On some rows: of x, from the whole gradient; of weight, from the gradient of these rows."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = reference.bn_relu_conv3x3(x, *vectors, weight, dilation)
    (grad_x,) = torch.autograd.grad(out, x, grad, retain_graph=True)
    (grad_weight,) = torch.autograd.grad(out[:, :, rows], weight, grad[:, :, rows])
    return {"x": grad_x[:, :, rows], "weight": grad_weight}


def _vector(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
