"""The core's kernels for batch norm's arithmetic on vectors, one number per channel; as kernels.py is for maps.

Vectors [C] are contiguous, float32 or float64; statistics, sums and invstd are float64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _core
from .backend import launch
from .kernels import BnSums, CorrectedGradient, Norm
from .pointers import memories, memory


@dataclass
class Correction:
    """What batch statistics take from the gradient scale * m of a batch norm's input x: constant + slope * (x - mean).

    Vectors [C]. Source: ALGORITHMS.md section 4.
    """

    mean: Tensor
    constant: Tensor
    slope: Tensor

    @staticmethod
    def empty(channels: int, dtype: torch.dtype, device: torch.device) -> "Correction":
        """For a kernel to write."""
        return Correction(*torch.empty((3, channels), dtype=dtype, device=device))

    @staticmethod
    def zeros(channels: int, dtype: torch.dtype, device: torch.device) -> "Correction":
        """Nothing is taken."""
        return Correction(*torch.zeros((3, channels), dtype=dtype, device=device))

    def part(self, channels: slice) -> "Correction":
        """That of some channels."""
        return Correction(self.mean[channels], self.constant[channels], self.slope[channels])

    def of(self, x: Tensor, grad: Tensor) -> CorrectedGradient:
        """The gradient of x [N, C, H, W] from grad = scale * m."""
        return CorrectedGradient(grad, x, self.mean, self.constant, self.slope)


def batch_norm_forward(
    statistics: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    batches: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    epsilon: float,
    momentum: float,
    positions: int,
    dtype: torch.dtype,
) -> tuple[Norm, Tensor]:
    """What kernels normalise with, of `dtype`, and invstd = 1 / sqrt(variance + epsilon) [C].

    With `statistics` [2, C], the mean and biased variance of a batch of so many positions, `running` mean and variance
    [C] of `dtype`, if given, are updated, and the scalar int64 `batches` counts one more. Without them those that are
    `running` take their place. gamma, beta: [C] of `dtype`; None stands for 1 and 0.
    """
    source = running[0] if statistics is None else statistics[0]
    channels, device = len(source), source.device
    norm = Norm(*torch.empty((3, channels), dtype=dtype, device=device))
    invstd = torch.empty(channels, dtype=torch.float64, device=device)
    if batches is not None and batches.dtype != torch.int64:
        raise TypeError(f"a batch norm's num_batches_tracked must be int64, got {batches.dtype}")
    launch(
        _core.batch_norm_forward,
        norm.mean,
        channels,
        *memories(statistics),
        *memories(running),
        memory(batches),
        memory(gamma),
        memory(beta),
        epsilon,
        momentum,
        positions / max(1, positions - 1),
        memory(norm.mean),
        memory(norm.scale),
        memory(norm.shift),
        memory(invstd),
    )
    return norm, invstd


def batch_norm_backward(
    sums: BnSums, invstd: Tensor, norm: Norm, positions: int, correction: Correction | None, accumulate: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of gamma and beta [C], from the sums over so many positions.

    `correction` (None: the batch norm is frozen) is written; with `accumulate` its constant and slope are added to, for
    another batch norm of the same map, which has the same mean.
    """
    channels = len(invstd)
    grad_gamma, grad_beta = torch.empty_like(norm.mean), torch.empty_like(norm.mean)
    vectors = (None, None, None) if correction is None else (correction.mean, correction.constant, correction.slope)
    launch(
        _core.batch_norm_backward,
        norm.mean,
        channels,
        positions,
        sums.pointers(),
        memory(invstd),
        norm.pointers(),
        memory(grad_gamma),
        memory(grad_beta),
        *map(memory, vectors),
        accumulate,
    )
    return grad_gamma, grad_beta
