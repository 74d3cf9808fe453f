"""The convolutions that are the core's own or, on CUDA, partly torch's: 3x3, and the stem's.

Functions, arguments and results are those of kernels.py.
"""

from torch import Tensor

from . import composed_conv3x3, composed_stem, kernels
from .backend import backend_of
from .kernels import BnSums, CorrectedGradient, Norm


def bn_relu_conv3x3_forward(
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    out: Tensor,
    first_row: int = 0,
    accumulate: bool = False,
    statistics: bool = False,
) -> Tensor | None:
    """See kernels.bn_relu_conv3x3_forward."""
    way = kernels.bn_relu_conv3x3_forward if backend_of(x.device).core_conv3x3 else composed_conv3x3.forward
    return way(x, norm, weight.to(x.dtype), dilation, out, first_row, accumulate, statistics)


def bn_relu_conv3x3_backward(
    grad: CorrectedGradient,
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    grad_x: Tensor,
    grad_first_row: int = 0,
    first_row: int = 0,
    want_weight: bool = True,
) -> tuple[Tensor | None, BnSums]:
    """See kernels.bn_relu_conv3x3_backward."""
    way = kernels.bn_relu_conv3x3_backward if backend_of(x.device).core_conv3x3 else composed_conv3x3.backward
    return way(grad, x, norm, weight.to(x.dtype), dilation, grad_x, grad_first_row, first_row, want_weight)


def stem_forward(
    images: Tensor, weight: Tensor, scale: Tensor, norm: Norm | None, out: Tensor, statistics: bool = False
) -> Tensor | None:
    """See kernels.stem_forward."""
    way = kernels.stem_forward if backend_of(images.device).core_stem else composed_stem.forward
    return way(images, weight.to(images.dtype), scale, norm, out, statistics)


def stem_backward_sums(grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm) -> BnSums:
    """See kernels.stem_backward_sums."""
    way = kernels.stem_backward_sums if backend_of(images.device).core_stem else composed_stem.backward_sums
    return way(grad, images, weight.to(images.dtype), norm)


def stem_backward_weight(
    grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm, constant: Tensor, slope: Tensor
) -> Tensor:
    """See kernels.stem_backward_weight."""
    way = kernels.stem_backward_weight if backend_of(images.device).core_stem else composed_stem.backward_weight
    return way(grad, images, weight.to(images.dtype), norm, constant, slope)
