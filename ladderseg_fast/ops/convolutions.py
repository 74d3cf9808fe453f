"""The convolutions that are the core's own or, on CUDA, partly torch's: 3x3, and the stem's.

Functions, arguments and results are those of kernels.py.
"""

from enum import Enum

from torch import Tensor

from . import composed_conv3x3, composed_stem, kernels
from .backend import runs_on_cuda
from .kernels import BnSums, CorrectedGradient, Norm


class Conv3x3Way(Enum):
    """How a 3x3 convolution is done on CUDA."""

    FUSED = "by the core, and the normalised map never exists"
    COMPOSED = "by torch, of the normalised map"


#: Fused moves half as many bytes, needs less memory and gives the same bits every time. The times have not been
#: compared; in float32 without tensor cores torch's (cuDNN's) may be shorter.
conv3x3_way = Conv3x3Way.FUSED


def _fused_conv3x3(x: Tensor) -> bool:
    return not runs_on_cuda(x.device) or conv3x3_way is Conv3x3Way.FUSED


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
    way = kernels.bn_relu_conv3x3_forward if _fused_conv3x3(x) else composed_conv3x3.forward
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
    way = kernels.bn_relu_conv3x3_backward if _fused_conv3x3(x) else composed_conv3x3.backward
    return way(grad, x, norm, weight.to(x.dtype), dilation, grad_x, grad_first_row, first_row, want_weight)


def stem_forward(
    images: Tensor, weight: Tensor, scale: Tensor, norm: Norm | None, out: Tensor, statistics: bool = False
) -> Tensor | None:
    """See kernels.stem_forward."""
    way = composed_stem.forward if runs_on_cuda(images.device) else kernels.stem_forward
    return way(images, weight.to(images.dtype), scale, norm, out, statistics)


def stem_backward_sums(grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm) -> BnSums:
    """See kernels.stem_backward_sums."""
    way = composed_stem.backward_sums if runs_on_cuda(images.device) else kernels.stem_backward_sums
    return way(grad, images, weight.to(images.dtype), norm)


def stem_backward_weight(
    grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm, constant: Tensor, slope: Tensor
) -> Tensor:
    """See kernels.stem_backward_weight."""
    way = composed_stem.backward_weight if runs_on_cuda(images.device) else kernels.stem_backward_weight
    return way(grad, images, weight.to(images.dtype), norm, constant, slope)
