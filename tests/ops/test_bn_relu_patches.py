import pytest
import torch
import torch.nn.functional as F
from support.bn_operator_suite import BnOperatorSuite
from support.comparison import assert_near
from support.operator_suite import LAYOUTS, random

from ladderseg_fast import ops
from ladderseg_fast.ops import layout, reference
from ladderseg_fast.ops.arguments import BnSums, Norm
from ladderseg_fast.ops.backend import real_dtype
from ladderseg_fast.ops.bn_relu_patches import bn_relu_patches_backward, bn_relu_patches_forward

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


class TestBnReluPatches(BnOperatorSuite):
    name = "bn_relu_patches"
    shapes = [
        (1, 1, 1, 1),
        (1, 3, 1, 2),
        (4, 17, 2, 1),
        (1, 33, 5, 7),
        (3, 130, 4, 3),
        (2, 3, 37, 42),
        (1, 64, 1, 300),
        (1, 16, 300, 1),
        (0, 3, 4, 4),
    ]
    small = (2, 3, 5, 4)
    large = (2, 33, 37, 41)

    @pytest.mark.parametrize("size", [(0, 4), (4, 0)])
    def test_without_pixels(self, size: tuple[int, int]) -> None:
        arguments = self.prepared((2, 3, *size), gradients=False)
        with pytest.raises(ValueError, match=r"\bx\b"):
            ops.bn_relu_patches(**arguments)

    @pytest.mark.parametrize("size", [(7, 10), (8, 9)], ids=str)
    def test_a_product_of_patches_is_a_convolution_with_stride_2(self, size: tuple[int, int]) -> None:
        """Gradients included: every weight meets the pixel that it meets in the convolution."""
        arguments = self.prepared((2, 5, *size), torch.float64)
        weight = random(4, 5, 3, 3, seed=6).requires_grad_()
        ones, zeros = torch.ones(45).double(), torch.zeros(45).double()
        as_product = weight.permute(0, 2, 3, 1).reshape(4, 45, 1, 1)
        actual = ops.bn_relu_conv1x1(ops.bn_relu_patches(**arguments), zeros, ones, None, None, as_product)
        expected = F.conv2d(reference.bn_relu(**arguments), weight, stride=2, padding=1)
        assert_near(actual, expected, "output")
        leaves = [*arguments.values(), weight]
        incoming = random(*expected.shape, seed=7)
        for i, (a, b) in enumerate(zip(*(torch.autograd.grad(y, leaves, incoming) for y in (actual, expected)))):
            assert_near(a, b, f"gradient {i}")


class Strips:
    """A map, its norm, and the whole results in float64."""

    def __init__(self, size: tuple[int, ...], dtype: torch.dtype, in_layout: str = "channels_last"):
        arguments = TestBnReluPatches().arguments(size)
        n, c, h, w = size
        self.x = LAYOUTS[in_layout](arguments["x"].to(dtype))
        vectors = [arguments[key].to(real_dtype(dtype)) for key in ("mean", "invstd", "gamma", "beta")]
        self.norm = Norm.of(*vectors)
        self.grad = layout.pixel_major(random(n, 9 * c, (h + 1) // 2, (w + 1) // 2, seed=7).to(dtype))
        x = self.x.double().requires_grad_()
        self.patches = reference.bn_relu_patches(x, *(vector.double() for vector in vectors))
        (self.grad_x,) = torch.autograd.grad(self.patches, x, self.grad.double())
        self.tolerance = TOLERANCE[dtype]

    def check_sums(self, sums: BnSums) -> None:
        mean, scale = (v.double().view(1, -1, 1, 1) for v in (self.norm.mean, self.norm.scale))
        m = self.grad_x / scale
        size = float(m.abs().sum((0, 2, 3)).max())
        assert_near(sums.masked, m.sum((0, 2, 3)), "sum of m", 1e-5, size)
        assert_near(sums.centred, (m * (self.x.double() - mean)).sum((0, 2, 3)), "sum of m * (x - mean)", 1e-5, size)


@pytest.mark.parametrize("in_layout", ["channels_last", "channel_slice"])
@pytest.mark.parametrize("edges", [(0, 2, 5, 6), (0, 1, 2, 3, 4, 5, 6), (0, 6)], ids=str)
@pytest.mark.parametrize("size", [(1, 24, 11, 7), (1, 24, 12, 8), (1, 5, 12, 1)], ids=str)
def test_strips_of_rows(size: tuple[int, ...], edges: tuple[int, ...], in_layout: str, map_dtype: torch.dtype) -> None:
    check_strips(size, edges, map_dtype, in_layout)


def check_strips(
    size: tuple[int, ...], edges: tuple[int, ...], dtype: torch.dtype, in_layout: str = "channels_last"
) -> None:
    """Strips between these rows of patches, from the top to the bottom; neighbours share a row of the input."""
    whole = Strips(size, dtype, in_layout)
    grad_x = torch.full_like(whole.x, torch.nan)
    total = BnSums.of_none(size[1], grad_x.device)
    for first, last in zip(edges, edges[1:]):
        top = max(0, 2 * first - 1)
        x, strip_grad = whole.x[:, :, top : 2 * last], grad_x[:, :, top : 2 * last]
        patches = torch.full_like(whole.grad[:, :, first:last], torch.nan)
        bn_relu_patches_forward(x, whole.norm, patches, first_row=2 * first - top)
        assert_near(patches.double(), whole.patches[:, :, first:last], f"patches from {first} on", whole.tolerance)
        total = total.plus(
            bn_relu_patches_backward(
                whole.grad[:, :, first:last], x, whole.norm, strip_grad, 2 * first - top, add_first_row=first > 0
            )
        )
    assert_near(grad_x.double(), whole.grad_x, "gradient of x", 2 * whole.tolerance)
    whole.check_sums(total)


@pytest.mark.parametrize("size", [(2, 40, 9, 10), (1, 24, 12, 7)], ids=str)
def test_some_rows_of_patches(size: tuple[int, ...]) -> None:
    """Input rows that no patch reads get a gradient of zero."""
    whole = Strips(size, torch.float64)
    for first, last in ((1, 3), (2, 4), (3, 3)):
        some = torch.zeros_like(whole.grad)
        some[:, :, first:last] = whole.grad[:, :, first:last]
        m = torch.zeros_like(whole.x)
        bn_relu_patches_backward(some, whole.x, whole.norm, m)
        grad = layout.pixel_major(whole.grad[:, :, first:last])
        grad_x = torch.full_like(whole.x, torch.nan)
        bn_relu_patches_backward(grad, whole.x, whole.norm, grad_x, first_row=2 * first)
        assert_near(grad_x, m, f"gradient by rows {first} to {last}")
        assert not grad_x[:, :, : 2 * first - 1].any() and not grad_x[:, :, 2 * last :].any()


def test_rows_outside_the_map_are_refused() -> None:
    x = layout.pixel_major(random(1, 4, 6, 6, seed=0))
    norm = Norm(*torch.ones(3, 4).double())
    patches = layout.pixel_major(random(1, 36, 3, 3, seed=0))
    for first_row in (-1, 2):
        with pytest.raises(ValueError, match=rf"5 rows from row {first_row} on are not within its 6"):
            bn_relu_patches_forward(x, norm, patches, first_row)
        with pytest.raises(ValueError, match=rf"5 rows from row {first_row} on are not within its 6"):
            bn_relu_patches_backward(patches, x, norm, x.clone(), first_row)
