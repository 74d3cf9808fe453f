"""The stem's kernels against plain torch in float64.

Images, weights and gradients are small integers, and norms powers of two, so that every number is exact in all dtypes:
results are equal, and maxima have many ties.
"""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_near, assert_same_bits
from support.devices import cuda_only, in_turn, tensor_cores_only
from torch import Tensor

from ladderseg_fast.ops.arguments import Correction, Gradient, Norm
from ladderseg_fast.ops.backend import backend_of, real_dtype
from ladderseg_fast.ops.layout import pixel_major, zeros
from ladderseg_fast.ops.stem import stem_backward_images, stem_backward_sums, stem_backward_weight, stem_forward

#: Images, channels, height, width; outputs.
SHAPES = [
    ((2, 3, 13, 18), 8),
    ((3, 3, 2, 1), 17),
    ((1, 1, 1, 1), 1),
    ((1, 5, 37, 70), 64),
    ((2, 4, 21, 67), 66),
    ((1, 2, 33, 131), 3),
]
ONE_STRIP, ROWS_OF_TWO = 1 << 26, 1

of_each_shape = pytest.mark.parametrize(("size", "outputs"), SHAPES, ids=str)
of_each_strip = pytest.mark.parametrize("strip_bytes", [ONE_STRIP, 5000, ROWS_OF_TWO])


def integers(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high + 1, shape).double()


@dataclass
class Stem:
    """A stem in float64."""

    images: Tensor
    weight: Tensor
    mean: Tensor
    scale: Tensor
    shift: Tensor
    grad: Tensor
    grad_slope: Tensor
    pooled: Tensor
    constant: Tensor
    slope: Tensor

    @staticmethod
    def random(shape: tuple[int, int, int, int], outputs: int) -> "Stem":
        n, c, h, w = shape
        pooled = n, outputs, (h + 3) // 4, (w + 3) // 4
        return Stem(
            integers(-1, 1, *shape),
            integers(-1, 1, outputs, c, 7, 7),
            integers(-1, 1, outputs),
            2.0 ** integers(-1, 1, outputs) * (1 - 2 * integers(0, 1, outputs)),
            integers(-1, 1, outputs),
            integers(-2, 2, *pooled),
            integers(0, 1, outputs) / 2,
            2 * integers(-1, 1, *pooled),
            integers(-1, 1, outputs) / 4,
            integers(0, 1, outputs) / 4,
        )

    @property
    def convolved(self) -> Tensor:
        return F.conv2d(self.images, self.weight, stride=2, padding=3)

    def normalised(self, x: Tensor) -> Tensor:
        mean, scale, shift = (vector.view(1, -1, 1, 1) for vector in (self.mean, self.scale, self.shift))
        return F.relu((x - mean) * scale + shift)

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, stride=2, padding=1)

    def masked(self) -> Tensor:
        """m of ladderseg/bn_relu.h."""
        x = self.convolved
        y = self.normalised(x).requires_grad_()
        (m,) = torch.autograd.grad(self.pool(y), y, self.settled_grad)
        return m * (y > 0)

    @property
    def settled_grad(self) -> Tensor:
        return self.grad - self.grad_slope.view(1, -1, 1, 1) * self.pooled

    def gradient_of_convolved(self) -> Tensor:
        mean, scale, constant, slope = (
            vector.view(1, -1, 1, 1) for vector in (self.mean, self.scale, self.constant, self.slope)
        )
        return scale * self.masked() - constant - slope * (self.convolved - mean)

    def arguments(self, dtype: torch.dtype) -> "Arguments":
        real = real_dtype(dtype)
        vector = {name: getattr(self, name).to(real) for name in ("mean", "scale", "shift", "constant", "slope")}
        nothing = torch.zeros_like(vector["mean"])
        return Arguments(
            self.images.to(dtype),
            self.weight.to(dtype),
            Norm(vector["mean"], vector["scale"], vector["shift"]),
            Gradient(
                pixel_major(self.grad.to(dtype)),
                pixel_major(self.pooled.to(dtype)),
                Correction(nothing, nothing, self.grad_slope.to(real)),
            ),
            Correction(vector["mean"], vector["constant"], vector["slope"]),
        )


@dataclass
class Arguments:
    """Arguments of the kernels."""

    images: Tensor
    weight: Tensor
    norm: Norm
    grad: Gradient
    correction: Correction

    def out(self) -> Tensor:
        return torch.full_like(self.grad.grad, torch.nan)


@of_each_shape
@of_each_strip
@in_turn("strip_bytes", 3)
def test_forward(map_dtype: torch.dtype, size: tuple[int, int, int, int], outputs: int, strip_bytes: int) -> None:
    stem = Stem.random(size, outputs)
    arguments = stem.arguments(map_dtype)
    images, weight, norm, out = arguments.images, arguments.weight, arguments.norm, arguments.out()
    assert stem_forward(images, weight, norm.scale, norm, out, strip_bytes=strip_bytes) is None
    assert torch.equal(out.double(), stem.pool(stem.normalised(stem.convolved)))

    statistics = stem_forward(images, weight, norm.scale, None, out, statistics=True, strip_bytes=strip_bytes)
    assert statistics is not None
    x = stem.convolved
    sign = stem.scale.sign().view(1, -1, 1, 1)
    assert torch.equal(out.double(), sign * stem.pool(sign * x))
    assert_near(statistics[0], x.mean(dim=(0, 2, 3)), "mean", tolerance=1e-6)
    assert_near(statistics[1], x.var(dim=(0, 2, 3), correction=0), "variance", tolerance=1e-6)


@of_each_shape
@of_each_strip
@in_turn("strip_bytes", 3)
def test_sums(map_dtype: torch.dtype, size: tuple[int, int, int, int], outputs: int, strip_bytes: int) -> None:
    stem = Stem.random(size, outputs)
    arguments = stem.arguments(map_dtype)
    sums = stem_backward_sums(arguments.grad, arguments.images, arguments.weight, arguments.norm, strip_bytes)
    m = stem.masked()
    assert torch.equal(sums.masked, m.sum(dim=(0, 2, 3)))
    assert torch.equal(sums.centred, (m * (stem.convolved - stem.mean.view(1, -1, 1, 1))).sum(dim=(0, 2, 3)))


@of_each_shape
@of_each_strip
@in_turn("strip_bytes", 3)
def test_weight(map_dtype: torch.dtype, size: tuple[int, int, int, int], outputs: int, strip_bytes: int) -> None:
    stem = Stem.random(size, outputs)
    a = stem.arguments(map_dtype)
    grad_weight = stem_backward_weight(a.grad, a.images, a.weight, a.norm, a.correction, strip_bytes)
    grad, padding = stem.gradient_of_convolved(), (3, 3)
    expected = torch.nn.grad.conv2d_weight(stem.images, stem.weight.shape, grad, stride=2, padding=padding)
    assert grad_weight.dtype == real_dtype(map_dtype)
    assert torch.equal(grad_weight.double(), expected)


@of_each_shape
@of_each_strip
@in_turn("strip_bytes", 3)
def test_images(map_dtype: torch.dtype, size: tuple[int, int, int, int], outputs: int, strip_bytes: int) -> None:
    """The gradient is added; where strips meet, it is rounded more than once."""
    stem = Stem.random(size, outputs)
    a = stem.arguments(map_dtype)
    grad_images = zeros(a.images, *size) + 1
    stem_backward_images(a.grad, a.images, a.weight, a.norm, a.correction, grad_images, strip_bytes)
    grad, padding = stem.gradient_of_convolved(), (3, 3)
    expected = 1 + torch.nn.grad.conv2d_input(size, stem.weight, grad, stride=2, padding=padding)
    assert_near(grad_images.double(), expected, "grad_images", tolerance=2 * torch.finfo(map_dtype).eps)


@pytest.mark.parametrize("layout", ["channels_last", "every second row and column", "expanded", "part"])
def test_strides_of_images(map_dtype: torch.dtype, layout: str) -> None:
    shape = 2, 3, 19, 22
    stem = Stem.random(shape, 8)
    if layout == "expanded":
        stem.images = stem.images[:1, :1].expand(shape)
    a = stem.arguments(map_dtype)
    match layout:
        case "channels_last":
            a.images = a.images.contiguous(memory_format=torch.channels_last)
        case "every second row and column":
            images = torch.full((2, 3, 38, 44), torch.nan, dtype=map_dtype)
            a.images = images[:, :, ::2, ::2].copy_(a.images)
        case "expanded":
            a.images = a.images[:1, :1].expand(shape)
        case _:
            images = torch.full((2, 4, 19, 25), torch.nan, dtype=map_dtype)
            a.images = images[:, 1:, :, 2:24].copy_(a.images)
    out = a.out()
    stem_forward(a.images, a.weight, a.norm.scale, a.norm, out, strip_bytes=3000)
    assert torch.equal(out.double(), stem.pool(stem.normalised(stem.convolved)))
    grad_weight = stem_backward_weight(a.grad, a.images, a.weight, a.norm, a.correction, 3000)
    grad, padding = stem.gradient_of_convolved(), (3, 3)
    expected = torch.nn.grad.conv2d_weight(stem.images, stem.weight.shape, grad, stride=2, padding=padding)
    assert torch.equal(grad_weight.double(), expected)


@pytest.mark.parametrize(("size", "outputs"), SHAPES[3:5], ids=str)
@of_each_strip
def test_infinite_pixel(
    map_dtype: torch.dtype, size: tuple[int, int, int, int], outputs: int, strip_bytes: int
) -> None:
    """Only windows that hold it are not finite."""
    stem = Stem.random(size, outputs)
    _, _, h, w = size
    stem.images[0, -1, h // 2, w // 4 * 2] = torch.inf
    a = stem.arguments(map_dtype)
    out = a.out()
    stem_forward(a.images, a.weight, a.norm.scale, a.norm, out, strip_bytes=strip_bytes)
    expected = stem.pool(stem.normalised(stem.convolved))
    assert_same_bits(out.double(), expected, "out")


def test_no_images(map_dtype: torch.dtype) -> None:
    a = Stem.random((0, 3, 8, 8), 4).arguments(map_dtype)
    out = a.out()
    statistics = stem_forward(a.images, a.weight, a.norm.scale, None, out, statistics=True)
    assert statistics is not None and statistics.isnan().all()
    sums = stem_backward_sums(a.grad, a.images, a.weight, a.norm)
    assert not sums.masked.any() and not sums.centred.any()
    assert not stem_backward_weight(a.grad, a.images, a.weight, a.norm, a.correction).any()
    stem_backward_images(a.grad, a.images, a.weight, a.norm, a.correction, zeros(a.images, *a.images.shape))


def test_random_numbers(map_dtype: torch.dtype) -> None:
    """Numbers that are not exact."""
    stem = Stem.random((2, 3, 61, 70), 64)
    stem.images = torch.randn_like(stem.images).to(map_dtype).double()
    stem.weight = torch.randn_like(stem.weight).to(map_dtype).double()
    a = stem.arguments(map_dtype)
    eps = torch.finfo(map_dtype).eps
    out = a.out()
    stem_forward(a.images, a.weight, a.norm.scale, a.norm, out)
    assert_near(out.double(), stem.pool(stem.normalised(stem.convolved)), "out", tolerance=8 * eps)


@tensor_cores_only
@pytest.mark.parametrize(("size", "outputs"), SHAPES[3:5], ids=str)
def test_tf32(size: tuple[int, int, int, int], outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch allows it, products of float32 are done by tensor cores, with numbers of 10 bits."""
    stem = Stem.random(size, outputs)

    def error(allow_tf32: bool, factor: float) -> float:
        monkeypatch.setattr(backend_of(torch.device("cpu")), "allow_tf32", allow_tf32)
        a = stem.arguments(torch.float32)
        out = a.out()
        stem_forward(a.images * factor, a.weight, a.norm.scale, None, out, strip_bytes=5000)
        x = factor * stem.convolved
        sign = stem.scale.sign().view(1, -1, 1, 1)
        return ((out.double() - sign * stem.pool(sign * x)).abs().max() / x.abs().max()).item()

    assert error(True, 1.0) == 0.0
    assert error(False, 1.0 + 2.0**-12) == 0.0
    assert 0.0 < error(True, 1.0 + 2.0**-12) <= 2.0**-12


@cuda_only
def test_the_same_bits_every_time() -> None:
    stem = Stem.random((1, 3, 40, 90), 64)
    stem.images = torch.randn_like(stem.images)
    a = stem.arguments(torch.float32)
    first, second = (stem_backward_weight(a.grad, a.images, a.weight, a.norm, a.correction, 9000) for _ in range(2))
    assert torch.equal(first, second)
