"""Bilinear upsampling."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .. import _core
from .backend import launch
from .kernel import kernel
from .pointers import feature_map


def plain_upsample(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """x [N, C, h, w] upsampled to `size` (H, W), in plain PyTorch."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=align_corners)


@kernel("upsample_forward")
def upsample_forward(coarse: Tensor, out: Tensor, first_row: int = 0, height: int | None = None) -> None:
    """Computes out [N, D, H, W], the bilinear upsampling of coarse [N, D, h, w] with half-pixel centres.

    For a strip of rows, out is rows first_row.. of an upsampled map of `height` rows.
    """
    height = out.shape[2] if height is None else height
    launch(_core.upsample_forward, coarse, feature_map(coarse), feature_map(out), first_row, height)


@kernel("upsample_backward")
def upsample_backward(grad: Tensor, grad_coarse: Tensor) -> None:
    """Computes grad_coarse [N, D, h, w], the transpose of the upsampling applied to grad [N, D, H, W]."""
    launch(_core.upsample_backward, grad, feature_map(grad), feature_map(grad_coarse))
