"""Forms in which kernels of 3x3 convolutions take their weights [M, C, 3, 3] and give their gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor


class TorchWeights:
    """Torch's form."""

    def for_forward(self, weight: Tensor) -> Tensor:
        """Returns `weight` [M, C, 3, 3] in the form that the forward kernel reads."""
        return weight.contiguous()

    def for_backward(self, weight: Tensor) -> Tensor:
        """Returns `weight` [M, C, 3, 3] in the form that the backward kernel reads."""
        return weight.contiguous()

    def empty_gradient(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Uninitialised gradient of `weight` [M, C, 3, 3], in the form that the backward kernel writes."""
        return torch.empty(weight.shape, dtype=dtype, device=weight.device)

    def gradient(self, written: Tensor, weight: Tensor) -> Tensor:
        """Gradient of `weight` [M, C, 3, 3], converted from the form that the kernel has written."""
        return written


class TapMajorWeights(TorchWeights):
    """Form with one matrix per tap, and zeros for channels up to whole chunks of 16 bytes."""

    def for_forward(self, weight: Tensor) -> Tensor:
        return _whole_chunks(weight, 1).permute(0, 2, 3, 1).contiguous()

    def for_backward(self, weight: Tensor) -> Tensor:
        return _whole_chunks(weight, 0, 1).permute(2, 3, 0, 1).contiguous()

    def empty_gradient(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        outputs, channels = weight.shape[:2]
        return torch.empty((3, 3, channels + _missing(weight, 1), outputs), dtype=dtype, device=weight.device)

    def gradient(self, written: Tensor, weight: Tensor) -> Tensor:
        return written[:, :, : weight.shape[1]].permute(3, 2, 0, 1).contiguous()


def _whole_chunks(weight: Tensor, *dims: int) -> Tensor:
    """Pads the channels of `weight` in `dims` with zeros to whole chunks of 16 bytes."""
    missing = {dim: _missing(weight, dim) for dim in dims}
    if not any(missing.values()):
        return weight
    return F.pad(weight, [end for dim in reversed(range(weight.dim())) for end in (0, missing.get(dim, 0))])


def _missing(weight: Tensor, dim: int) -> int:
    return -weight.shape[dim] % (16 // weight.element_size())
