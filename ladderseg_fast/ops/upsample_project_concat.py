"""The input of a transition-up: upsampled coarse features and the projected skip connection, side by side."""

import torch
from torch import Tensor

from .. import _core
from . import autocast, reference
from .arguments import BnSums, Gradient, Norm, readable_weight
from .backend import launch
from .bn_relu_conv1x1 import bn_relu_conv1x1_backward
from .checks import check_like, check_map, check_tensors
from .cost import pixels
from .kernel import kernel
from .pointers import feature_map, memory
from .registration import bn_relu_operator, reference_of
from .transforms import refuse_tangents
from .upsample import plain_upsample, upsample_backward


def upsample_project_concat(
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> Tensor:
    """Concatenation of `coarse`, upsampled bilinearly to the size of `skip`, with conv1x1(bn_relu(skip)).

    Args:
        coarse: [N, D, h, w], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        skip: [N, C, H, W].
        mean, invstd: [C], statistics of skip or constants; float32 beside 16-bit maps, else of their dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
        weight: [M, C, 1, 1].
    Returns:
        [N, D + M, H, W], channels_last; of the dtype of skip, or of torch.autocast's.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md section 5, transition-up.
    Equivalent to: ops.reference.upsample_project_concat.
    """
    refuse_tangents("upsample_project_concat", (coarse, skip, mean, invstd, gamma, beta, weight))
    check_tensors(coarse=coarse, skip=skip, weight=weight)
    skip, coarse, weight = autocast.cast(skip, coarse, weight)
    return _operator(coarse, skip, mean, invstd, gamma, beta, weight)


@reference_of(upsample_project_concat)
def _plain(
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> Tensor:
    """Concatenation [N, D + M, H, W] of coarse [N, D, h, w], upsampled to (H, W), and bn_relu_conv1x1(skip)."""
    projected = reference.bn_relu_conv1x1(skip, mean, invstd, gamma, beta, weight)
    return torch.cat([plain_upsample(coarse, skip.shape[2:]), projected], dim=1)


@kernel(
    "upsample_project_concat_forward",
    "conv1x1_forward",
    lambda skip, weight, **_: 2.0 * weight.numel() * pixels(skip),
)
def upsample_project_concat_forward(coarse: Tensor, skip: Tensor, norm: Norm, weight: Tensor, out: Tensor) -> None:
    """Computes out [N, D + M, H, W] from coarse [N, D, h, w] and skip [N, C, H, W]."""
    weight = readable_weight(weight, skip.dtype, skip.shape[1], out.shape[1] - coarse.shape[1])
    pointers = feature_map(coarse), feature_map(skip), norm.pointers(), memory(weight), feature_map(out)
    launch(_core.upsample_project_concat_forward, skip, *pointers)


def _backward(
    grad: Tensor,
    coarse: Tensor,
    skip: Tensor,
    norm: Norm,
    weight: Tensor,
    grad_coarse: Tensor,
    grad_skip: Tensor,
) -> tuple[Tensor | None, BnSums]:
    channels = coarse.shape[1]
    upsample_backward(grad[:, :channels], grad_coarse)
    return bn_relu_conv1x1_backward(Gradient(grad[:, channels:]), skip, norm, weight, grad_skip)


def _check(coarse: Tensor, skip: Tensor, *_: Tensor | None) -> None:
    check_map("coarse", coarse)
    check_like("coarse", coarse, "skip", skip)
    if coarse.shape[0] != skip.shape[0]:
        raise ValueError(f"coarse and skip must have the same batch size, got {coarse.shape[0]} and {skip.shape[0]}")
    if min(coarse.shape[2:]) < 1 or min(skip.shape[2:]) < 1:
        raise ValueError(f"coarse and skip must have pixels, got {tuple(coarse.shape)} and {tuple(skip.shape)}")


def _output_shape(coarse: Tensor, skip: Tensor, *vectors_weight: Tensor) -> tuple[int, ...]:
    n, _, h, w = skip.shape
    return n, coarse.shape[1] + vectors_weight[-1].shape[0], h, w


_operator = bn_relu_operator(
    "upsample_project_concat",
    "Tensor coarse, Tensor skip, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta, Tensor weight",
    output_shape=_output_shape,
    forward=upsample_project_concat_forward,
    backward=_backward,
    check=_check,
)
