"""Transforms of torch's, and the operators: what comes out is right, or there is an error."""

from collections.abc import Callable

import pytest
import torch
from support.comparison import assert_near
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from ladderseg_fast import lean, ops
from ladderseg_fast.nn import Head
from ladderseg_fast.ops.backend import RecordedCuda, using

Function = Callable[[Tensor], Tensor]

LABELS = torch.randint(0, 4, (2, 12, 12), generator=torch.Generator().manual_seed(0))


def functions(implementation: object) -> dict[str, Function]:
    """Each operator that can be differentiated, as a function of its map."""
    g = torch.Generator().manual_seed(1)
    mean, invstd = torch.randn(4, generator=g), torch.rand(4, generator=g) + 0.5
    norm = (mean, invstd, None, None)
    weight, weight3 = torch.randn(3, 4, 1, 1, generator=g), torch.randn(3, 4, 3, 3, generator=g)
    i = implementation
    return {
        "bn_add_relu": lambda x: i.bn_add_relu(x, *norm, x.flip(3), *norm),
        "bn_relu": lambda x: i.bn_relu(x, *norm),
        "bn_relu_avgpool2": lambda x: i.bn_relu_avgpool2(x, *norm),
        "bn_relu_conv1x1": lambda x: i.bn_relu_conv1x1(x, *norm, weight),
        "bn_relu_conv3x3": lambda x: i.bn_relu_conv3x3(x, *norm, weight3),
        "bn_relu_maxpool": lambda x: i.bn_relu_maxpool(x, *norm),
        "bn_relu_patches": lambda x: i.bn_relu_patches(x, *norm),
        "channel_statistics": lambda x: i.channel_statistics(x)[1],
        "upsample_cross_entropy": lambda x: i.upsample_cross_entropy(x, LABELS),
        "upsample_cross_entropy_dice_loss": lambda x: i.upsample_cross_entropy_dice_loss(x, LABELS),
        "upsample_dice_loss": lambda x: i.upsample_dice_loss(x, LABELS),
        "upsample_ohem_cross_entropy": lambda x: i.upsample_ohem_cross_entropy(x, LABELS),
        "upsample_project_concat": lambda x: i.upsample_project_concat(x[:, :, ::2, ::2], x, *norm, weight),
    }


FUNCTIONS = functions(ops)
REFERENCES = functions(ops.reference)
each_operator = pytest.mark.parametrize("name", FUNCTIONS)


def images() -> Tensor:
    return torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(2))


def tangent(function: Function, x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, x))).tangent


@pytest.mark.real_use
@each_operator
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_forward_mode_is_refused(name: str, grad: bool) -> None:
    x, function = images(), FUNCTIONS[name]
    assert tangent(REFERENCES[name], x).abs().sum() > 0
    with torch.set_grad_enabled(grad):
        for differentiate in (
            lambda: tangent(function, x),
            lambda: torch.func.jvp(function, (x,), (x,)),
            lambda: torch.func.jvp(torch.vmap(lambda x: function(x[None].expand(2, -1, -1, -1))), (x,), (x,)),
            lambda: torch.vmap(lambda x: torch.func.jvp(function, (x,), (x,))[1])(x[None]),
        ):
            with pytest.raises(RuntimeError, match="forward mode.*ops.reference"):
                differentiate()


@pytest.mark.real_use
def test_forward_mode_is_refused_below_the_public_functions() -> None:
    with pytest.raises(RuntimeError, match="forward mode"):
        tangent(lambda x: torch.ops.ladderseg_fast.channel_statistics(x)[1], images())


@pytest.mark.real_use
def test_forward_mode_passes_what_has_no_tangent() -> None:
    x = images()
    constant = FUNCTIONS["bn_relu"](x).sum()
    _, found = torch.func.jvp(lambda a: a * FUNCTIONS["bn_relu"](x).sum(), (torch.ones(()),), (torch.ones(()),))
    assert found == constant


@pytest.mark.real_use
@each_operator
def test_torch_func_grad_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"torch\.func.*ops.reference"):
        torch.func.grad(lambda x: FUNCTIONS[name](x).sum())(images())


@pytest.mark.real_use
@each_operator
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_what_runs_is_right(name: str) -> None:
    """vmap, functionalize, torch.jit.trace, make_fx."""
    x, function, expected = images(), FUNCTIONS[name], FUNCTIONS[name](images())
    assert_near(torch.vmap(function)(torch.stack([x, x]))[1], expected, "vmap")
    assert_near(torch.func.functionalize(function)(x), expected, "functionalize")
    for traced in (torch.jit.trace(function, (x + 1,)), make_fx(function)(x + 1)):
        assert_near(traced(x), expected, "traced")


@pytest.mark.real_use
@each_operator
def test_a_negative_bit_is_resolved(name: str) -> None:
    x = torch.complex(images(), images()).conj().imag
    assert x.is_neg()
    assert_near(FUNCTIONS[name](x), FUNCTIONS[name](-images()), name)


@pytest.mark.real_use
@pytest.mark.parametrize("kind", [Tensor.to_sparse, Tensor.to_mkldnn])
def test_only_dense_maps(kind: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(TypeError, match="x must be dense"):
        FUNCTIONS["bn_relu"](kind(images()))


def test_only_dense_maps_in_a_lean_step() -> None:
    with pytest.raises(RuntimeError, match="cannot run on tensors of layout torch.sparse_coo, only on dense ones"):
        lean.head(Head(4, num_classes=3), images().to_sparse())


def test_what_lies_on_another_device_is_refused() -> None:
    x, vector = torch.empty(1, 4, 6, 6, device="meta"), torch.zeros(4)
    norm = (vector.to("meta"), vector.to("meta"), None, None)
    with using(RecordedCuda(61, 20)):  # which has tensors on the meta device
        with pytest.raises(ValueError, match="mean must be on meta like x, got cpu"):
            ops.bn_relu(x, vector, vector, None, None)
        with pytest.raises(ValueError, match="weight must be on meta like x, got cpu"):
            ops.bn_relu_conv1x1(x, *norm, torch.zeros(3, 4, 1, 1))
        with pytest.raises(ValueError, match="labels must be on meta like logits, got cpu"):
            ops.upsample_cross_entropy(x, LABELS[:1])


def test_gradients_of_another_shape_than_the_output_are_refused() -> None:
    """By the operators that torch.ops has: autograd gives others the right one."""
    x, vector = torch.randn(2, 4, 6, 6), torch.ones(4)
    grad = torch.randn(2, 4, 6, 5)
    with pytest.raises(ValueError, match=r"grad must be \(2, 4, 6, 6\) like the output, got shape \(2, 4, 6, 5\)"):
        torch.ops.ladderseg_fast.bn_relu_backward(grad, x, vector, vector, None, None)
    with pytest.raises(ValueError, match=r"grad must be \(2, 12, 12\) like the losses, got shape \(2, 12\)"):
        torch.ops.ladderseg_fast.upsample_pixel_losses_backward(
            torch.ones(2, 12), x, LABELS, None, ignore_index=255, label_smoothing=0.0, align_corners=False
        )
