"""Arguments of kernels other than maps: batch norms, their sums and corrections, gradients, weights.

Feature maps are pixel-major tensors [N, C, H, W] (layout.py) of one dtype, one of the backend's. Vectors [C] and weight
gradients have its real_dtype; statistics and sums are float64. Kernels write to tensors that the caller passes. The
callers have checked the meaning of the arguments (checks.py, or by construction in the lean step).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _core
from .backend import backend_of, real_dtype
from .pointers import NO_MAP, feature_map, memory

_NO_CORRECTION = _core.Correction(NO_MAP, None, None, None)


@dataclass
class Norm:
    """Batch norm in the form of the kernels: relu((x - mean) * scale + shift), per channel.

    mean, scale and shift are contiguous [C] of the real_dtype of x.
    """

    mean: Tensor
    scale: Tensor
    shift: Tensor

    @staticmethod
    def of(mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> "Norm":
        """Makes a norm from statistics [C] and affine parameters [C] (None: 1 and 0)."""
        scale = invstd if gamma is None else invstd * gamma
        shift = torch.zeros_like(mean) if beta is None else beta
        return Norm(mean.contiguous(), scale.contiguous(), shift.contiguous())

    def part(self, channels: slice) -> "Norm":
        """Batch norm of some channels."""
        return Norm(self.mean[channels], self.scale[channels], self.shift[channels])

    def pointers(self) -> _core.Norm:
        return _core.Norm(memory(self.mean), memory(self.scale), memory(self.shift))


def norm_or_scale(norm: Norm | None, scale: Tensor | None) -> _core.Norm:
    """Pointers for kernels that need only the signs of `scale` [C] if there is no `norm`."""
    return _core.Norm(None, memory(scale), None) if norm is None else norm.pointers()


@dataclass
class BnSums:
    """Sums of the masked gradient m that batch norm's backward needs: sum(m) and sum(m * (x - mean)), [C] float64."""

    masked: Tensor
    centred: Tensor

    @staticmethod
    def empty(channels: int, device: torch.device) -> "BnSums":
        """Allocates sums for a kernel to write."""
        return BnSums(*torch.empty((2, channels), dtype=torch.float64, device=device))

    @staticmethod
    def of_none(channels: int, device: torch.device) -> "BnSums":
        """Makes the sums over zero positions."""
        return BnSums(*torch.zeros((2, channels), dtype=torch.float64, device=device))

    def pointers(self) -> _core.BnSums:
        return _core.BnSums(memory(self.masked), memory(self.centred))

    def plus(self, other: "BnSums | None") -> "BnSums":
        """Adds `other` in place, and returns these sums."""
        if other is not None:
            self.masked += other.masked
            self.centred += other.centred
        return self


@dataclass
class Correction:
    """Deferred correction of a batch norm's input gradient scale * m: subtract constant + slope * (x - mean).

    The vectors are contiguous [C] of the real_dtype of x. Source: ALGORITHMS.md section 4.
    """

    mean: Tensor
    constant: Tensor
    slope: Tensor

    @staticmethod
    def empty(channels: int, dtype: torch.dtype, device: torch.device) -> "Correction":
        """Allocates a correction for a kernel to write."""
        return Correction(*torch.empty((3, channels), dtype=dtype, device=device))

    @staticmethod
    def zeros(channels: int, dtype: torch.dtype, device: torch.device) -> "Correction":
        """Makes a correction that subtracts nothing."""
        return Correction(*torch.zeros((3, channels), dtype=dtype, device=device))

    @staticmethod
    def of_vectors(vectors: Tensor, dtype: torch.dtype) -> "Correction":
        """The correction of which `vectors` gave these, or the sum of several with the same mean, in `dtype`."""
        correction = Correction.empty(vectors.shape[1], dtype, vectors.device)
        mean, constant, slope, count = vectors
        correction.mean.copy_(mean / count)
        correction.constant.copy_(constant)
        correction.slope.copy_(slope)
        return correction

    def vectors(self) -> Tensor:
        """Mean, constant, slope and ones [4, C] float64: autograd may add those of several parts of a program."""
        vectors = torch.ones((4, len(self.mean)), dtype=torch.float64, device=self.mean.device)
        for row, vector in enumerate((self.mean, self.constant, self.slope)):
            vectors[row].copy_(vector)
        return vectors

    def part(self, channels: slice) -> "Correction":
        """Correction of some channels."""
        return Correction(self.mean[channels], self.constant[channels], self.slope[channels])

    def plus(self, other: "Correction") -> "Correction":
        """The sum of two corrections of the same channels, perhaps with another mean each."""
        constant = self.constant + other.constant + other.slope * (self.mean - other.mean)
        return Correction(self.mean, constant, self.slope + other.slope)


@dataclass
class Gradient:
    """Gradient [N, C, H, W] whose batch norm correction is left to its reader.

    Its value is grad - constant - slope * (x - mean), with x [N, C, H, W] and the vectors of `correction`; without a
    correction it is grad. Source: ALGORITHMS.md section 4.
    """

    grad: Tensor
    x: Tensor | None = None
    correction: Correction | None = None

    @property
    def device(self) -> torch.device:
        return self.grad.device

    def part(self, images: slice, rows: slice) -> "Gradient":
        """Gradient of some images and rows."""
        x = None if self.x is None else self.x[images, :, rows]
        return Gradient(self.grad[images, :, rows], x, self.correction)

    def pointers(self) -> _core.Gradient:
        if self.correction is None:
            return _core.Gradient(feature_map(self.grad), _NO_CORRECTION)
        c = self.correction
        vectors = memory(c.mean), memory(c.constant), memory(c.slope)
        return _core.Gradient(feature_map(self.grad), _core.Correction(feature_map(self.x), *vectors))


@dataclass(frozen=True)
class PreparedWeight:
    """Weight [M, C, k, k] of which `values` has the elements in the order of `form`: see prepared_weights.py."""

    shape: torch.Size
    form: _core.WeightForm
    values: Tensor

    def numel(self) -> int:
        """Number of elements of the weight itself."""
        return self.shape.numel()


Weight = Tensor | PreparedWeight


def expect_weight(weight: Weight, inputs: int, outputs: int, kernel_size: int) -> None:
    """Checks that `weight` is [outputs, inputs, k, k], for maps of so many channels.

    The core checks only extents, and would accept another arrangement of the same number of values.

    Raises:
        ValueError: it has another shape.
    """
    expected = (outputs, inputs, kernel_size, kernel_size)
    if weight.shape != expected:
        raise ValueError(f"weight must be {list(expected)} for these maps, got {list(weight.shape)}")


def readable_weight(weight: Tensor, dtype: torch.dtype, inputs: int, outputs: int, kernel_size: int = 1) -> Tensor:
    """Returns `weight` [outputs, inputs, k, k], contiguous and as kernels read it beside maps of `dtype`.

    Raises:
        ValueError: see expect_weight.
    """
    expect_weight(weight, inputs, outputs, kernel_size)
    return weight.to(backend_of(weight.device).weight_dtype(dtype)).contiguous()


def empty_weight_gradient(weight: Tensor) -> Tensor:
    """Uninitialised gradient for a weight [M, C, k, k] that readable_weight returned."""
    return torch.empty(weight.shape, dtype=real_dtype(weight.dtype), device=weight.device)


def empty_statistics(x: Tensor) -> Tensor:
    """Uninitialised [2, C] for the mean and the biased variance of x [N, C, H, W]."""
    return torch.empty((2, x.shape[1]), dtype=torch.float64, device=x.device)


def statistics_to_write(x: Tensor, wanted: Tensor | bool | None) -> Tensor | None:
    """Tensor to which a kernel writes the statistics of x: `wanted` itself, or a new one if it is True."""
    if isinstance(wanted, Tensor):
        return wanted
    return empty_statistics(x) if wanted else None
