"""Batch norm's arithmetic on vectors, one number per channel: before the passes over a map, and after them.

Vectors [C] are contiguous, float32 or float64; statistics, sums and invstd are float64.
"""

import torch
from torch import Tensor

from .. import _core
from .arguments import BnSums, Correction, Norm
from .backend import launch
from .kernel import vector_kernel
from .pointers import memories, memory


@vector_kernel("batch_norm_forward")
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
    """Norm for the kernels, of `dtype`, and invstd = 1 / sqrt(variance + epsilon) [C].

    With `statistics` [2, C], the mean and biased variance of a batch of `positions` positions, it updates the `running`
    mean and variance [C] of `dtype`, if given, and adds one to the scalar int64 `batches`. Without `statistics` it uses
    the running mean and variance. gamma, beta: [C] of `dtype`; None means 1 and 0.
    """
    source = statistics if statistics is not None else running
    assert source is not None, "a batch has statistics, or there are running ones"
    channels, device = len(source[0]), source[0].device
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


@vector_kernel("batch_norm_backward")
def batch_norm_backward(
    sums: BnSums,
    invstd: Tensor,
    norm: Norm,
    positions: int,
    correction: Correction | None,
    accumulate: bool,
    gradients: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of gamma and beta [C], from the sums over `positions` positions; written to `gradients` if given.

    It writes `correction` (None: the batch norm is frozen). With `accumulate` it adds to the constant and slope of a
    correction that another batch norm of the same map, with the same mean, has written.
    """
    channels = len(invstd)
    grad_gamma, grad_beta = gradients or (torch.empty_like(norm.mean), torch.empty_like(norm.mean))
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
