"""Batch norm and rectification."""

import torch.nn.functional as F
from torch import Tensor

from .. import _core
from .arguments import BnSums, Norm
from .backend import launch
from .kernel import kernel
from .pointers import feature_map
from .registration import bn_relu_operator, reference_of
from .transforms import refuse_tangents


def bn_relu(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """relu((x - mean) * invstd * gamma + beta), per channel.

    Args:
        x: [N, C, H, W], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
    Returns:
        [N, C, H, W], channels_last.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    Source: ALGORITHMS.md section 4.
    Equivalent to: ops.reference.bn_relu.
    """
    refuse_tangents("bn_relu", (x, mean, invstd, gamma, beta))
    return _operator(x, mean, invstd, gamma, beta)


@reference_of(bn_relu)
def _plain(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """relu((x - mean) * invstd * gamma + beta) of x [N, C, H, W], per channel."""
    return F.relu(plain_batch_norm(x, mean, invstd, gamma, beta))


def plain_batch_norm(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """(x - mean) * invstd * gamma + beta of x [N, C, H, W], per channel, in plain torch."""
    normalised = (x - _per_channel(mean)) * _per_channel(invstd)
    if gamma is not None:
        normalised = normalised * _per_channel(gamma)
    if beta is not None:
        normalised = normalised + _per_channel(beta)
    return normalised.to(x.dtype)


def _per_channel(vector: Tensor) -> Tensor:
    """View [1, C, 1, 1] of a vector [C], which broadcasts over [N, C, H, W]."""
    return vector.view(1, -1, 1, 1)


@kernel("bn_relu_forward")
def bn_relu_forward(x: Tensor, norm: Norm, out: Tensor) -> None:
    """Computes out = bn_relu(x), [N, C, H, W]."""
    launch(_core.bn_relu_forward, x, feature_map(x), norm.pointers(), feature_map(out))


@kernel("bn_relu_backward")
def bn_relu_backward(grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, accumulate: bool = False) -> BnSums:
    """Computes grad_x (+)= norm.scale * m; grad, x, grad_x [N, C, H, W]; grad_x may be grad. Returns the sums."""
    sums = BnSums.empty(x.shape[1], x.device)
    arguments = feature_map(grad), feature_map(x), norm.pointers(), feature_map(grad_x), accumulate, sums.pointers()
    launch(_core.bn_relu_backward, x, *arguments)
    return sums


_operator = bn_relu_operator(
    "bn_relu",
    "Tensor x, Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta",
    output_shape=lambda x, *_: x.shape,
    forward=bn_relu_forward,
    backward=lambda *arguments: (None, bn_relu_backward(*arguments)),
)
