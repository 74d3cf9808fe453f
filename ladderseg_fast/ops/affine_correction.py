"""Computes the value of a gradient whose batch norm correction has been deferred."""

from torch import Tensor

from .. import _core
from .arguments import Gradient
from .backend import launch
from .kernel import kernel
from .layout import empty
from .pointers import feature_map


@kernel("affine_correction")
def affine_correction(gradient: Gradient, out: Tensor) -> None:
    """Writes the value of `gradient` [N, C, H, W], which has a correction, to `out`; out may be gradient.grad."""
    launch(_core.affine_correction, out, gradient.pointers(), feature_map(out))


def write(gradient: Gradient, out: Tensor) -> Tensor:
    """Writes the value of `gradient` [N, C, H, W] to `out`, and returns `out`."""
    if gradient.correction is None:
        return out if out is gradient.grad else out.copy_(gradient.grad)
    affine_correction(gradient, out)
    return out


def settled(gradient: Gradient) -> Tensor:
    """Value of `gradient` [N, C, H, W]; a new tensor if there is a correction."""
    grad = gradient.grad
    return grad if gradient.correction is None else write(gradient, empty(grad, *grad.shape))
