"""Batch norm over the batches of several processes, as nn.SyncBatchNorm defines it.

Statistics and corrections (ALGORITHMS.md section 4) are made from the process's own batch, and combined here. All
processes of a group call these functions in the same order, with as many channels: they run the same program.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ..ops.arguments import Correction
from ..ops.backend import real_dtype
from . import recorder

#: The classes of batch norms that programs compute.
BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

#: What a recorded step cannot repeat: the core launches kernels alone.
_NOT_RECORDED = "batch norms exchange statistics with other processes"


@dataclass(frozen=True)
class JointBatch:
    """The batches of the processes of a group, taken as one."""

    group: "distributed.ProcessGroup"
    positions: Tensor
    """N * H * W of all of them together, a float64 scalar: their images may differ in size."""


def group_of(module: nn.Module, device: torch.device) -> "distributed.ProcessGroup | None":
    """The processes with which `module` shares the statistics of a batch on `device`; None: it has its own.

    As in nn.SyncBatchNorm.forward, but on the CPU too. Where only shapes are computed, nothing is shared.
    """
    if not isinstance(module, nn.SyncBatchNorm) or not module.training:
        return None
    if not (distributed.is_available() and distributed.is_initialized()) or device.type == "meta":
        return None
    group = module.process_group or distributed.group.WORLD
    return group if distributed.get_world_size(group) > 1 else None


def groups_to_share(modules: Iterable[nn.Module]) -> dict[int, Any]:
    """A memo for copy.deepcopy of a tree with these modules: its process groups, of which there is no copy, stay."""
    groups = [child.process_group for child in modules if isinstance(child, nn.SyncBatchNorm)]
    return {id(group): group for group in groups if group is not None}


def joint_statistics(
    statistics: Tensor, positions: int, dtype: torch.dtype, group: "distributed.ProcessGroup"
) -> tuple[Tensor, JointBatch]:
    """Mean and biased variance [2, C] float64 of the joint batch, from those of this process's positions.

    One collective call, of 2 C + 1 numbers in the real dtype of maps of `dtype`: they are as exact as the maps' own
    values. All processes compute the same bits, from the same numbers in the same order.
    """
    _note()
    channels = statistics.shape[1]
    own = statistics.new_empty(2 * channels + 1, dtype=real_dtype(dtype))
    own[:-1].view_as(statistics).copy_(statistics)
    own[-1] = positions
    gathered = own.new_empty(distributed.get_world_size(group), len(own))
    distributed.all_gather([*gathered.unbind()], own, group)
    means, variances, counts = gathered.double().split([channels, channels, 1], dim=1)
    total = counts.sum()
    shares = counts / total
    mean = (shares * means).sum(dim=0)
    variance = (shares * (variances + (means - mean).square())).sum(dim=0)
    return torch.stack((mean, variance)), JointBatch(group, total)


def joint_correction(own: Correction, batch: JointBatch) -> None:
    """Turns corrections for sums over this process's positions into that of the joint batch, in place.

    One collective call.
    """
    _note()
    both = torch.stack((own.constant, own.slope))
    distributed.all_reduce(both, group=batch.group)
    both /= batch.positions
    own.constant.copy_(both[0])
    own.slope.copy_(both[1])


def _note() -> None:
    recording = recorder.active()
    if recording is not None:
        recording.fail(_NOT_RECORDED)
