"""Mean and variance per channel."""

from typing import Any

import torch
from torch import Tensor

from .. import _core
from .affine_correction import affine_correction
from .arguments import Correction, Gradient, empty_statistics
from .backend import launch, real_dtype
from .checks import check_map, check_vector
from .kernel import kernel
from .layout import empty, pixel_major, zeros
from .pointers import feature_map, memories
from .registration import no_double_backward, operator, reference_of
from .transforms import refuse_tangents


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel of `x` over N, H and W.

    Its backward is the deferred correction of ALGORITHMS.md section 4: the gradients that all readers of a channel give
    its statistics reach x in one pass.

    Args:
        x: [N, C, H, W], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
    Returns:
        mean [C], variance [C], float32 for 16-bit x, else of its dtype; NaN if there is no position.
    Raises:
        ValueError: x is not a 4-d tensor with channels.
        TypeError: x has another dtype.
    Equivalent to: ops.reference.channel_statistics.
    """
    refuse_tangents("channel_statistics", (x,))
    return _forward(x)


@reference_of(channel_statistics)
def _plain(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and biased variance [C] of x [N, C, H, W] over N, H and W."""
    x = x if x.dtype == torch.float64 else x.float()
    mean = x.mean(dim=(0, 2, 3))
    variance = (x - mean.view(1, -1, 1, 1)).square().mean(dim=(0, 2, 3))
    return mean, variance


@kernel("channel_statistics")
def mean_and_variance(x: Tensor, statistics: Tensor | None = None) -> Tensor:
    """Mean and biased variance [2, C] float64 of x [N, C, H, W].

    They are written to `statistics` if given, whose rows are contiguous.
    """
    result = empty_statistics(x) if statistics is None else statistics
    launch(_core.channel_statistics, x, feature_map(x), *memories(result))
    return result


@operator("channel_statistics", schema="(Tensor x) -> (Tensor, Tensor)")
def _forward(x: Tensor) -> tuple[Tensor, Tensor]:
    check_map("x", x)
    mean, variance = mean_and_variance(pixel_major(x))
    dtype = real_dtype(x.dtype)
    return mean.to(dtype, copy=True), variance.to(dtype, copy=True)


@_forward.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    check_map("x", x)
    dtype = real_dtype(x.dtype)
    return x.new_empty(x.shape[1], dtype=dtype), x.new_empty(x.shape[1], dtype=dtype)


@operator(
    "channel_statistics_backward", schema="(Tensor grad_mean, Tensor grad_variance, Tensor x, Tensor mean) -> Tensor"
)
def _backward(grad_mean: Tensor, grad_variance: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    check_map("x", x)
    for name, vector in {"grad_mean": grad_mean, "grad_variance": grad_variance, "mean": mean}.items():
        check_vector(name, vector, x.shape[1], "x", x)
    positions = x.numel() // x.shape[1]
    x = pixel_major(x)
    out = zeros(x, *x.shape)
    correction = Correction(mean.contiguous(), -grad_mean / positions, -2.0 * grad_variance / positions)
    affine_correction(Gradient(out, x, correction), out)
    return out


@_backward.register_fake
def _(grad_mean: Tensor, grad_variance: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    return empty(x, *x.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], output[0])


def _autograd(ctx: Any, grad_mean: Tensor, grad_variance: Tensor) -> Tensor:
    x, mean = ctx.saved_tensors
    return _backward(grad_mean, grad_variance, x, mean)


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
