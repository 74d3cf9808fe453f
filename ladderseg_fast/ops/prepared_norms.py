"""Norms for the kernels from running statistics, on a GPU of many batch norms in one launch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _core
from .arguments import Norm
from .backend import backend_of, launch
from .batch_norm import batch_norm_forward
from .kernel import vector_kernel
from .pointers import memory

#: Bytes between the places of results: every one's address is a multiple of it.
_ALIGNMENT = 256


@dataclass(frozen=True)
class RunningNorm:
    """A batch norm's running statistics and affine parameters: contiguous vectors [C] of one dtype and device.

    gamma, beta: None means 1 and 0.
    """

    mean: Tensor
    variance: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    epsilon: float


def prepare_norms(norms: Sequence[RunningNorm]) -> list[tuple[Norm, Tensor]]:
    """The norm for the kernels, and invstd = 1 / sqrt(variance + epsilon) [C] float64, of each of `norms`.

    All have the same dtype and device. Results may share their memory with others', and with nothing else.
    """
    if not norms:
        return []
    like = norms[0].mean
    if not backend_of(like.device).on_gpu:
        return [_one(norm) for norm in norms]
    counts = [len(norm.mean) for norm in norms]
    vectors = _places([3 * count for count in counts], like.dtype, like.device)
    invstds = _places(counts, torch.float64, like.device)
    _prepare(like, [_job(*each) for each in zip(norms, vectors, invstds)])
    return [(Norm(*each.view(3, -1)), invstd) for each, invstd in zip(vectors, invstds)]


def _one(norm: RunningNorm) -> tuple[Norm, Tensor]:
    running = norm.mean, norm.variance
    return batch_norm_forward(None, running, None, norm.gamma, norm.beta, norm.epsilon, 0.0, 0, norm.mean.dtype)


def _places(counts: Sequence[int], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Vectors of so many elements in one piece of memory."""
    step = _ALIGNMENT // dtype.itemsize
    places = [-(-count // step) * step for count in counts]
    parts = torch.empty(sum(places), dtype=dtype, device=device).split(places)
    return [part[:count] for part, count in zip(parts, counts)]


@vector_kernel("prepare_norms")
def _prepare(like: Tensor, jobs: "list[_core.RunningNorm]") -> None:
    launch(_core.prepare_norms, like, jobs)


def _job(norm: RunningNorm, vectors: Tensor, invstd: Tensor) -> "_core.RunningNorm":
    running = memory(norm.mean), memory(norm.variance)
    affine = memory(norm.gamma), memory(norm.beta)
    return _core.RunningNorm(len(norm.mean), *running, *affine, norm.epsilon, memory(vectors), memory(invstd))
