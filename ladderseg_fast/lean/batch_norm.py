"""One batch norm as one lean step sees it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..ops.arguments import BnSums, Correction, Norm
from ..ops.backend import real_dtype
from ..ops.batch_norm import batch_norm_backward, batch_norm_forward
from .joint_batch import BatchNorm, JointBatch, group_of, joint_correction


class SingleValueError(ValueError):
    """Batch norm in training has a single value per channel, whose statistics mean nothing."""


@dataclass
class BoundNorm:
    """The numbers that a batch norm normalised with in one forward pass.

    They are copies: later changes of the module's buffers do not affect the backward of this pass.
    """

    norm: Norm
    invstd: Tensor
    """[C] float64."""
    positions: int
    """P = N * H * W, of this process."""
    batch_statistics: bool
    """False for frozen batch norm: mean and invstd are constants then."""
    joint: JointBatch | None = None
    """The batch of several processes, if the statistics are those of one."""

    def part(self, channels: slice) -> "BoundNorm":
        """The bound norm of some channels."""
        return replace(self, norm=self.norm.part(channels), invstd=self.invstd[channels])

    def with_scale(self, scale: Tensor) -> "BoundNorm":
        """The same with another scale [C]: with ones, for a gradient whose reader multiplies it with the scale."""
        return replace(self, norm=Norm(self.norm.mean, scale, self.norm.shift))

    def backward(
        self, sums: BnSums, deferred: Correction | None = None, gradients: tuple[Tensor, Tensor] | None = None
    ) -> "NormGradients":
        """Computes the gradients from the sums over all positions.

        If `deferred` is given, this norm's correction is added to the first channels of it; for a joint batch, the one
        for sums of this process, to which `joint_correction` is left. The gradients of gamma and beta [C] are written
        to `gradients`, if given; those of this process, as in nn.SyncBatchNorm.
        """
        correction = None
        if self.batch_statistics:
            vector = self.norm.mean
            if deferred is None:
                correction = Correction.empty(len(vector), vector.dtype, vector.device)
            else:
                correction = deferred.part(slice(0, len(vector)))
        accumulate = deferred is not None
        positions = self.positions if self.joint is None else 1
        gamma, beta = batch_norm_backward(sums, self.invstd, self.norm, positions, correction, accumulate, gradients)
        if self.joint is not None and correction is not None and not accumulate:
            joint_correction(correction, self.joint)
        return NormGradients(gamma, beta, correction)


@dataclass
class NormGradients:
    """Results of a batch norm's backward, apart from the pass over its input."""

    gamma: Tensor
    """[C], like beta."""
    beta: Tensor
    correction: Correction | None
    """Correction of the input's gradient; None for frozen batch norm, which needs no correction."""


def uses_batch_statistics(module: BatchNorm) -> bool:
    """Whether `module` normalises with the statistics of the batch, as in nn.BatchNorm2d.forward."""
    return module.training or (module.running_mean is None and module.running_var is None)


def _counted_by_kernel(batches: Tensor | None, device: torch.device) -> bool:
    """Whether a kernel, which writes eight bytes, may write to `batches`.

    load_state_dict with assign=True and casts of all buffers leave counts of another dtype or on another device;
    nn.BatchNorm2d works with these.
    """
    return batches is not None and batches.dtype == torch.int64 and batches.dim() == 0 and batches.device == device


def running_statistics(module: BatchNorm) -> tuple[Tensor, Tensor]:
    """The buffers with the running mean and variance.

    Raises:
        TypeError, RuntimeError: the buffers are not floating, or require gradients.
    """
    mean, variance = module.running_mean, module.running_var
    assert mean is not None and variance is not None
    for buffer in (mean, variance):
        if not buffer.is_floating_point():
            raise TypeError(f"running statistics must be floating, got {buffer.dtype} in {module}")
        if buffer.requires_grad:
            raise RuntimeError(f"running statistics have no gradients, but those of {module} require them")
    return mean, variance


def checked_epsilon(module: BatchNorm, of_batch: bool) -> float:
    """The eps of `module`; ValueError if it is negative, or 0 with statistics of a batch."""
    if module.eps < 0 or (of_batch and module.eps == 0):
        expected = "positive in training" if of_batch else "at least 0"
        raise ValueError(f"eps must be {expected}, got {module.eps} of {module}")
    return module.eps


def bind(
    module: BatchNorm,
    gamma: Tensor | None,
    beta: Tensor | None,
    statistics: Tensor,
    positions: int,
    dtype: torch.dtype,
    joint: JointBatch | None = None,
) -> BoundNorm:
    """Binds `module` to the statistics of a batch for one pass; in training mode, updates its running ones once.

    Args:
        gamma, beta: [C] or None, the module's affine parameters in this pass.
        statistics: mean and biased variance [2, C] float64 of the batch.
        positions: P = N * H * W, of this process.
        dtype: dtype of the feature map.
        joint: the batch of several processes, if the statistics are those of one.
    Raises:
        ValueError: eps is not positive.
        TypeError, RuntimeError: running statistics are not floating, or require gradients.
        SingleValueError: there is a single value per channel, where nn.BatchNorm2d raises a ValueError.
    """
    # Where only shapes are computed, a batch norm that shares its statistics has no joint batch.
    if positions == 1 and group_of(module, torch.device("cpu")) is None:
        raise SingleValueError(f"Expected more than 1 value per channel when training, got 1 for {module}")
    epsilon = checked_epsilon(module, of_batch=True)
    real = real_dtype(dtype)
    updates = module.training and module.track_running_stats
    buffers = running_statistics(module) if updates else None
    by_kernel = None if joint is not None else buffers
    running = None if by_kernel is None else (by_kernel[0].to(real).contiguous(), by_kernel[1].to(real).contiguous())
    batches = module.num_batches_tracked if updates else None
    momentum = module.momentum
    counted = running is not None and _counted_by_kernel(batches, statistics.device)
    if batches is not None and (momentum is None or not counted):
        batches.add_(1)
        momentum, batches = 1.0 / float(batches) if momentum is None else momentum, None
    norm, invstd = batch_norm_forward(
        statistics,
        running,
        batches,
        None if gamma is None else gamma.to(real).contiguous(),
        None if beta is None else beta.to(real).contiguous(),
        epsilon,
        momentum if updates and momentum is not None else 0.0,
        positions,
        real,
    )
    if updates and by_kernel is not None and running is not None:
        for buffer, updated in zip(by_kernel, running):
            if updated is not buffer:  # a copy in another dtype
                buffer.copy_(updated)
        for buffer in (*by_kernel, *([] if batches is None else [batches])):
            torch.autograd.graph.increment_version(buffer)  # autograd does not see the kernel's write
    if joint is not None and buffers is not None and momentum is not None:
        _follow(buffers, statistics, joint, momentum)
    return BoundNorm(norm, invstd, positions, True, joint)


def _follow(running: tuple[Tensor, Tensor], statistics: Tensor, joint: JointBatch, momentum: float) -> None:
    """Updates running mean and variance; the host does not know the joint batch's positions, so no kernel does."""
    unbiased = joint.positions / (joint.positions - 1)
    for buffer, found in zip(running, (statistics[0], statistics[1] * unbiased)):
        buffer.lerp_(found.to(buffer.dtype), momentum)
