"""The input of a transition-up: upsampled coarse features and the projected skip connection, side by side."""

import torch
from torch import Tensor

from . import autocast, kernels
from .checks import check_batch_norm, check_grad, check_like, check_map, check_weight
from .gradients import batch_norm_gradients, no_double_backward
from .layout import empty, pixel_major
from .operator import operator
from .transforms import refuse_tangents


def upsample_project_concat(
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> Tensor:
    """`coarse`, upsampled bilinearly to the size of `skip`, concatenated with conv1x1(bn_relu(skip)).

    Args:
        coarse: [N, D, h, w], float32 or float64, on CUDA float16 or bfloat16 too; channels_last is read without a copy.
        skip: [N, C, H, W].
        mean, invstd: [C], statistics of skip or constants; float32 beside 16-bit maps, else of their dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
        weight: [M, C, 1, 1].
    Returns:
        [N, D + M, H, W], channels_last; of the dtype of skip, or of torch.autocast's on CUDA.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md section 5, transition-up.
    Equivalent to: ops.reference.upsample_project_concat.
    """
    refuse_tangents("upsample_project_concat", (coarse, skip, mean, invstd, gamma, beta, weight))
    skip, coarse, weight = autocast.cast(skip, coarse, weight)
    return _forward(coarse, skip, mean, invstd, gamma, beta, weight)


@operator(
    "ladderseg_fast::upsample_project_concat",
    schema="(Tensor coarse, Tensor skip, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight)"
    " -> Tensor",
)
def _forward(
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> Tensor:
    _check(coarse, skip, mean, invstd, gamma, beta, weight)
    out = empty(skip, *_output_shape(coarse, skip, weight))
    norm = kernels.Norm.of(mean, invstd, gamma, beta)
    kernels.upsample_project_concat_forward(pixel_major(coarse), pixel_major(skip), norm, weight, out)
    return out


@_forward.register_fake
def _(
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> Tensor:
    _check(coarse, skip, mean, invstd, gamma, beta, weight)
    return empty(skip, *_output_shape(coarse, skip, weight))


@operator(
    "ladderseg_fast::upsample_project_concat_backward",
    schema="(Tensor grad, Tensor coarse, Tensor skip, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta,"
    " Tensor weight) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor,
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of coarse, skip and weight, and the sums of kernels.BnSums in the dtype of mean."""
    _check(coarse, skip, mean, invstd, gamma, beta, weight)
    check_grad(grad, _output_shape(coarse, skip, weight), skip)
    grad = pixel_major(grad)
    grad_coarse = empty(coarse, *coarse.shape)
    kernels.upsample_backward(grad[:, : coarse.shape[1]], grad_coarse)
    grad_skip = empty(skip, *skip.shape)
    grad_weight, sums = kernels.bn_relu_conv1x1_backward(
        kernels.CorrectedGradient(grad[:, coarse.shape[1] :]),
        pixel_major(skip),
        kernels.Norm.of(mean, invstd, gamma, beta),
        weight,
        grad_skip,
        accumulate=False,
    )
    vectors = sums.masked.to(mean.dtype, copy=True), sums.centred.to(mean.dtype, copy=True)
    return grad_coarse, grad_skip, grad_weight.to(weight.dtype), *vectors


@_backward.register_fake
def _(
    grad: Tensor,
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    sums = torch.empty_like(mean)
    grad_weight = weight.new_empty(weight.shape)
    return empty(coarse, *coarse.shape), empty(skip, *skip.shape), grad_weight, sums, torch.empty_like(sums)


def _check(
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> None:
    check_batch_norm("skip", skip, mean, invstd, gamma, beta)
    check_weight(weight, "skip", skip)
    check_map("coarse", coarse)
    check_like("coarse", coarse, "skip", skip)
    if coarse.shape[0] != skip.shape[0]:
        raise ValueError(f"coarse and skip must be of one batch size, got {coarse.shape[0]} and {skip.shape[0]}")
    if min(coarse.shape[2:]) < 1 or min(skip.shape[2:]) < 1:
        raise ValueError(f"coarse and skip must have pixels, got {tuple(coarse.shape)} and {tuple(skip.shape)}")


def _output_shape(coarse: Tensor, skip: Tensor, weight: Tensor) -> tuple[int, int, int, int]:
    n, _, h, w = skip.shape
    return n, coarse.shape[1] + weight.shape[0], h, w


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad: Tensor):
    coarse, skip, mean, invstd, gamma, beta, weight = ctx.saved_tensors
    grad_coarse, grad_skip, grad_weight, masked, centred = _backward(
        grad, coarse, skip, mean, invstd, gamma, beta, weight
    )
    return grad_coarse, grad_skip, *batch_norm_gradients(masked, centred, invstd, gamma, beta), grad_weight


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
