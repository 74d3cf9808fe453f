import pytest
import torch
from support.bn_operator_suite import VECTORS, BnOperatorSuite, bn_arguments
from support.comparison import assert_near, assert_same_bits
from support.operator_suite import LAYOUTS, Arguments, random
from torch import Tensor

from ladderseg_fast import ops
from ladderseg_fast.ops import layout
from ladderseg_fast.ops.arguments import BnSums, Correction, Gradient, Norm
from ladderseg_fast.ops.backend import real_dtype
from ladderseg_fast.ops.bn_add_relu import bn_add_relu_backward, bn_add_relu_forward

SHORTCUT_VECTORS = tuple(f"shortcut_{name}" for name in VECTORS)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


class TestBnAddRelu(BnOperatorSuite):
    name = "bn_add_relu"
    maps = ("x", "shortcut")
    optional = ("gamma", "beta", "shortcut_gamma", "shortcut_beta")
    differentiable = ("x", *VECTORS, "shortcut", *SHORTCUT_VECTORS)
    shapes = [
        (1, 1, 1, 1),
        (1, 3, 1, 1),
        (4, 17, 1, 1),
        (1, 33, 5, 7),
        (3, 130, 3, 2),
        (2, 3, 37, 41),
        (1, 64, 1, 1300),
        (1, 1100, 9, 8),
        (0, 3, 4, 4),
    ]
    small = (2, 3, 3, 2)
    large = (2, 33, 37, 41)

    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        """No pixel of the sum is at the kink of the ReLU, where rounding would decide the gradient."""
        arguments = super().arguments(shape)
        of_shortcut = bn_arguments(random(*shape, seed=20, low=-2.0, high=2.0))
        shortcut, *vectors = (value.roll(1, dims=0 if value.dim() == 1 else 1) for value in of_shortcut.values())
        arguments |= {"shortcut": shortcut, **dict(zip(SHORTCUT_VECTORS, vectors))}
        scale = _vector(arguments["invstd"] * arguments["gamma"])
        y = _normalised(arguments["x"], *(arguments[key] for key in VECTORS)) + _normalised(shortcut, *vectors)
        arguments["x"] = (arguments["x"] + 0.05 * torch.where(y > 0, 1.0, -1.0) / scale).float().double()
        return arguments

    def test_shortcut_as_it_is(self, map_dtype: torch.dtype) -> None:
        """Without vectors of its own, which only the shortcut's gradient and saved tensors know."""
        self.check(self.prepared(self.large, map_dtype, **dict.fromkeys(SHORTCUT_VECTORS)))
        arguments = self.prepared(self.small, torch.float64, **dict.fromkeys(SHORTCUT_VECTORS))
        assert torch.autograd.gradcheck(self.overload(), tuple(arguments.values()))
        torch.library.opcheck(self.overload(), tuple(arguments.values()))

    @pytest.mark.parametrize("wrong", ["longer", "matrix"])
    @pytest.mark.parametrize("key", SHORTCUT_VECTORS)
    def test_vector_of_the_shortcut_does_not_fit(self, key: str, wrong: str) -> None:
        arguments = self.prepared(self.small, gradients=False)
        arguments[key] = arguments[key].repeat(2) if wrong == "longer" else arguments[key][None]
        with pytest.raises(ValueError, match=rf"\b{key}\b"):
            self.operator()(**arguments)

    @pytest.mark.parametrize("key", ["shortcut_mean", "shortcut_invstd"])
    def test_statistics_of_the_shortcut_are_given_together(self, key: str) -> None:
        with pytest.raises(TypeError, match=rf"\b{key}\b"):
            self.operator()(**self.prepared(self.small) | {key: None})

    def test_shortcut_of_another_size(self) -> None:
        arguments = self.prepared(self.small, gradients=False)
        arguments["shortcut"] = arguments["shortcut"][:, :, :1]
        with pytest.raises(ValueError, match=r"\bshortcut\b"):
            self.operator()(**arguments)

    def test_with_channel_statistics_it_is_the_end_of_a_residual_unit(self) -> None:
        """Gradients included: the batch statistics are differentiated too."""
        x, shortcut = (random(2, 17, 5, 7, seed=seed).requires_grad_() for seed in (0, 1))
        norms = [torch.nn.BatchNorm2d(17, dtype=torch.float64) for _ in range(2)]
        torch.nn.init.uniform_(norms[1].weight, 0.5, 1.5, generator=torch.Generator().manual_seed(2))

        def vectors(x: Tensor, norm: torch.nn.BatchNorm2d) -> tuple[Tensor, ...]:
            mean, variance = ops.channel_statistics(x)
            return mean, (variance + norm.eps).rsqrt(), norm.weight, norm.bias

        actual = ops.bn_add_relu(x, *vectors(x, norms[0]), shortcut, *vectors(shortcut, norms[1]))
        expected = torch.relu(norms[0](x) + norms[1](shortcut))
        assert_near(actual, expected, "output")
        incoming = random(*x.shape, seed=3)
        leaves = [x, shortcut, *norms[0].parameters(), *norms[1].parameters()]
        gradients = (torch.autograd.grad(y, leaves, incoming, retain_graph=True) for y in (actual, expected))
        for i, (a, b) in enumerate(zip(*gradients, strict=True)):
            assert_near(a, b, f"gradient {i}")


def _vector(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def _normalised(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return (x - _vector(mean)) * _vector(invstd * gamma) + _vector(beta)


def _map(*shape: int, dtype: torch.dtype, seed: int, in_layout: str = "channels_last") -> Tensor:
    return LAYOUTS[in_layout](random(*shape, seed=seed).to(dtype))


def _norm(channels: int, dtype: torch.dtype, seed: int) -> Norm:
    return Norm(*(random(channels, seed=seed + i, low=0.5).to(real_dtype(dtype)) for i in range(3)))


class Backward:
    """Arguments of a call of the backward, and what it must compute, in float64."""

    def __init__(self, size: tuple[int, ...], dtype: torch.dtype, projected: bool, corrected: bool, in_layout: str):
        channels = size[1]
        self.size = size
        self.tolerance = TOLERANCE[dtype]
        grad, self.x, self.shortcut, self.before = (
            _map(*size, dtype=dtype, seed=seed, in_layout=in_layout) for seed in range(4)
        )
        self.out = _map(*size, dtype=dtype, seed=4, in_layout=in_layout).relu_()
        self.norm, self.shortcut_norm = (_norm(channels, dtype, seed) for seed in (10, 20))
        self.projected = projected
        correction = Correction(*(random(channels, seed=30 + i).to(real_dtype(dtype)) for i in range(3)))
        self.gradient = Gradient(grad, self.out, correction) if corrected else Gradient(grad)
        value = grad.double()
        if corrected:
            mean, constant, slope = (
                _vector(v.double()) for v in (correction.mean, correction.constant, correction.slope)
            )
            value = value - constant - slope * (self.out.double() - mean)
        self.m = torch.where(self.out > 0, value, 0.0)

    def run(self, grad_x: Tensor | None, grad_shortcut: Tensor | None, accumulate: bool = False) -> None:
        """Calls it, and compares the sums."""
        norm = self.shortcut_norm if self.projected else None
        shortcut = self.shortcut if self.projected else None
        sums, of_shortcut = bn_add_relu_backward(
            self.gradient, self.out, self.x, self.norm, shortcut, norm, grad_x, grad_shortcut, accumulate
        )
        self._check_sums(sums, self.x, self.norm)
        assert (of_shortcut is not None) == self.projected
        if of_shortcut is not None:
            self._check_sums(of_shortcut, self.shortcut, self.shortcut_norm)

    def _check_sums(self, sums: BnSums, x: Tensor, norm: Norm) -> None:
        positions = (0, 2, 3)
        size = float(self.m.abs().sum(positions).max())
        deviation = x.double() - _vector(norm.mean.double())
        assert_near(sums.masked, self.m.sum(positions), "sum of m", 1e-5, size)
        assert_near(sums.centred, (self.m * deviation).sum(positions), "sum of m * (x - mean)", 1e-5, size)

    def check_x(self, grad_x: Tensor) -> None:
        assert_near(grad_x.double(), _vector(self.norm.scale.double()) * self.m, "gradient of x", self.tolerance)

    def check_shortcut(self, grad_shortcut: Tensor, accumulated: bool = False) -> None:
        expected = _vector(self.shortcut_norm.scale.double()) * self.m if self.projected else self.m
        if accumulated:
            expected = expected + self.before.double()
        assert_near(grad_shortcut.double(), expected, "gradient of the shortcut", self.tolerance)


@pytest.fixture(params=[False, True], ids=["as it is", "projected"])
def projected(request: pytest.FixtureRequest) -> bool:
    """Whether the shortcut has a norm."""
    return request.param


@pytest.fixture(params=[False, True], ids=["settled", "corrected"])
def corrected(request: pytest.FixtureRequest) -> bool:
    """Whether the incoming gradient has a deferred correction."""
    return request.param


def empty_like(x: Tensor) -> Tensor:
    return torch.full_like(x, torch.nan)


@pytest.mark.parametrize("in_layout", ["channels_last", "channel_slice"])
@pytest.mark.parametrize("size", [(2, 37, 5, 7), (1, 64, 9, 11), (1, 1104, 9, 8)], ids=str)
def test_both_gradients(
    size: tuple[int, ...], in_layout: str, map_dtype: torch.dtype, projected: bool, corrected: bool
) -> None:
    backward = Backward(size, map_dtype, projected, corrected, in_layout)
    grad_x, grad_shortcut = empty_like(backward.x), empty_like(backward.x)
    backward.run(grad_x, grad_shortcut)
    backward.check_x(grad_x)
    backward.check_shortcut(grad_shortcut)


@pytest.mark.parametrize("wanted", ["x", "shortcut", "neither"])
def test_optional_gradients(wanted: str, projected: bool) -> None:
    """What is not wanted is not computed; the sums always are."""
    backward = Backward((2, 40, 5, 7), torch.float32, projected, False, "channels_last")
    grad_x, grad_shortcut = (empty_like(backward.x) if wanted == name else None for name in ("x", "shortcut"))
    backward.run(grad_x, grad_shortcut)
    if grad_x is not None:
        backward.check_x(grad_x)
    if grad_shortcut is not None:
        backward.check_shortcut(grad_shortcut)


def test_gradient_of_the_shortcut_is_added(map_dtype: torch.dtype, projected: bool, corrected: bool) -> None:
    check_added((2, 40, 5, 7), map_dtype, projected, corrected)


def check_added(size: tuple[int, ...], dtype: torch.dtype, projected: bool, corrected: bool) -> None:
    """The gradient of the shortcut is added to what is there."""
    backward = Backward(size, dtype, projected, corrected, "channels_last")
    grad_x, grad_shortcut = empty_like(backward.x), backward.before.clone()
    backward.run(grad_x, grad_shortcut, accumulate=True)
    backward.check_x(grad_x)
    backward.check_shortcut(grad_shortcut, accumulated=True)


@pytest.mark.parametrize("in_layout", ["channels_last", "channel_slice"])
def test_gradient_of_the_shortcut_in_place_of_the_incoming(
    in_layout: str, map_dtype: torch.dtype, projected: bool, corrected: bool
) -> None:
    backward = Backward((2, 40, 5, 7), map_dtype, projected, corrected, in_layout)
    backward.run(None, backward.gradient.grad)
    backward.check_shortcut(backward.gradient.grad)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_vectors_at_any_address(offset: int, map_dtype: torch.dtype) -> None:
    """As parts of a batch norm's vectors, in a map read 16 bytes at a time."""
    backward = Backward((2, 40, 5, 7), map_dtype, True, True, "channels_last")
    for vectors in (backward.norm, backward.shortcut_norm, backward.gradient.correction):
        for name, vector in vars(vectors).items():
            setattr(vectors, name, torch.cat([vector[:offset], vector])[offset:])
    grad_x, grad_shortcut = empty_like(backward.x), empty_like(backward.x)
    backward.run(grad_x, grad_shortcut)
    backward.check_x(grad_x)
    backward.check_shortcut(grad_shortcut)


@pytest.mark.parametrize("in_place_of", ["x", "shortcut"])
def test_forward_in_place(in_place_of: str, map_dtype: torch.dtype, projected: bool) -> None:
    size = (2, 40, 5, 7)
    x, shortcut = (_map(*size, dtype=map_dtype, seed=seed) for seed in (0, 1))
    norm, shortcut_norm = _norm(40, map_dtype, 10), _norm(40, map_dtype, 20) if projected else None
    out = layout.empty(x, *size)
    bn_add_relu_forward(x, norm, shortcut, shortcut_norm, out)
    assert out.min() == 0.0 < out.max()
    target = x if in_place_of == "x" else shortcut
    bn_add_relu_forward(x, norm, shortcut, shortcut_norm, target)
    assert_same_bits(target, out, "in place")


def test_strips_of_rows(projected: bool) -> None:
    """Rows of maps are maps, and the sums of the strips add up."""
    backward = Backward((1, 24, 11, 7), torch.float64, projected, True, "channel_slice")
    grad_x, grad_shortcut = empty_like(backward.x), empty_like(backward.x)
    norm = backward.shortcut_norm if projected else None
    total = BnSums.of_none(24, grad_x.device)
    out = empty_like(backward.x)
    for rows in (slice(0, 4), slice(4, 5), slice(5, 11)):
        x, shortcut, strip_out = (each[:, :, rows] for each in (backward.x, backward.shortcut, backward.out))
        bn_add_relu_forward(x, backward.norm, shortcut, norm, out[:, :, rows])
        sums, _ = bn_add_relu_backward(
            backward.gradient.part(slice(None), rows),
            strip_out,
            x,
            backward.norm,
            shortcut,
            norm,
            grad_x[:, :, rows],
            grad_shortcut[:, :, rows],
        )
        total = total.plus(sums)
    backward.check_x(grad_x)
    backward.check_shortcut(grad_shortcut)
    assert_near(total.masked, backward.m.sum((0, 2, 3)), "sum of m")
    whole = layout.empty(backward.x, *backward.size)
    bn_add_relu_forward(backward.x, backward.norm, backward.shortcut, norm, whole)
    assert_same_bits(out, whole, "output")


def test_nan_of_the_output_passes_the_gradient() -> None:
    """As torch's threshold_backward does."""
    backward = Backward((1, 20, 3, 5), torch.float32, True, False, "channels_last")
    backward.out[:, ::3] = torch.nan
    grad_x, grad_shortcut = empty_like(backward.x), empty_like(backward.x)
    bn_add_relu_backward(
        backward.gradient,
        backward.out,
        backward.x,
        backward.norm,
        backward.shortcut,
        backward.shortcut_norm,
        grad_x,
        grad_shortcut,
    )
    m = torch.ops.aten.threshold_backward(backward.gradient.grad, backward.out, 0.0)
    assert_near(grad_x, _vector(backward.norm.scale) * m, "gradient of x", 1e-6)
    assert_near(grad_shortcut, _vector(backward.shortcut_norm.scale) * m, "gradient of the shortcut", 1e-6)


def test_shortcut_and_its_norm_are_given_together() -> None:
    x, norm = _map(1, 8, 3, 3, dtype=torch.float32, seed=0), _norm(8, torch.float32, 0)
    with pytest.raises(ValueError, match="shortcut and its norm"):
        bn_add_relu_backward(Gradient(x), x, x, norm, None, norm, None, None)
