"""Batch norm over the batches of several processes in plain torch: what nn.SyncBatchNorm computes, on any device."""

from typing import Any

import torch
from torch import Tensor, distributed, nn


class _Sum(torch.autograd.Function):
    """The sum over the processes of a group; differentiated, of the sum of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = x.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.clone()
        distributed.all_reduce(total, group=ctx.group)
        return total, None


class ReferenceSyncBatchNorm(nn.SyncBatchNorm):
    """torch's nn.SyncBatchNorm has no kernels for the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        group = self.process_group or distributed.group.WORLD
        count = torch.tensor([float(x.numel() // x.shape[1])], dtype=x.dtype)
        distributed.all_reduce(count, group=group)
        mean = _Sum.apply(x.sum(dim=(0, 2, 3)), group) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centred.square().sum(dim=(0, 2, 3)), group) / count
        if self.track_running_stats:
            self._follow(mean.detach(), (variance * (count / (count - 1))).detach())
        y = centred * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        return y if self.weight is None else y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def use_reference(module: nn.Module) -> nn.Module:
    """Makes every nn.SyncBatchNorm of `module` one for the CPU, in place."""
    for child in module.modules():
        if type(child) is nn.SyncBatchNorm:
            child.__class__ = ReferenceSyncBatchNorm
    return module
