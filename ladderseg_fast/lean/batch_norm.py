"""One BatchNorm2d as one lean step sees it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..ops.backend import real_dtype
from ..ops.kernels import BnSums, CorrectedGradient, Norm


@dataclass
class BoundNorm:
    """The numbers that a BatchNorm2d normalised with in one forward pass.

    They are its own: what later happens to the module's buffers does not reach the backward of this pass.
    """

    norm: Norm
    invstd: Tensor
    """[C] float64."""
    positions: int
    """P = N * H * W."""
    batch_statistics: bool
    """False for frozen batch norm: mean and invstd are constants then."""

    def part(self, channels: slice) -> "BoundNorm":
        """That of some channels."""
        return BoundNorm(self.norm.part(channels), self.invstd[channels], self.positions, self.batch_statistics)

    def parameter_gradients(self, sums: BnSums) -> tuple[Tensor, Tensor]:
        """Gradients of gamma and beta, [C]."""
        dtype = self.norm.mean.dtype
        return (self.invstd * sums.centred).to(dtype), sums.masked.to(dtype)

    def correction(self, sums: BnSums) -> tuple[Tensor, Tensor]:
        """(constant, slope), [C] float64: dx = scale * m - constant - slope * (x - mean).

        ALGORITHMS.md section 4: constant = scale * mean(m), slope = scale * mean(m * xhat) * invstd.
        """
        scale = self.norm.scale.double()
        constant = scale * sums.masked / self.positions
        slope = scale * sums.centred * self.invstd.square() / self.positions
        return constant, slope

    def corrected(self, x: Tensor, grad: Tensor, sums: BnSums) -> CorrectedGradient:
        """The gradient of `x` [N, C, H, W] from grad = scale * m, where this batch norm is its only reader."""
        if not self.batch_statistics:
            return CorrectedGradient(grad)
        constant, slope = (vector.to(real_dtype(grad.dtype)) for vector in self.correction(sums))
        return CorrectedGradient(grad, x, self.norm.mean, constant, slope)


def uses_batch_statistics(module: nn.BatchNorm2d) -> bool:
    """Whether `module` normalises with the statistics of the batch, as in nn.BatchNorm2d.forward."""
    return module.training or (module.running_mean is None and module.running_var is None)


def bind(
    module: nn.BatchNorm2d,
    gamma: Tensor | None,
    beta: Tensor | None,
    statistics: tuple[Tensor, Tensor] | None,
    positions: int,
    dtype: torch.dtype,
) -> BoundNorm:
    """Bind `module` for one pass; in training mode update its running statistics, once.

    Args:
        gamma, beta: [C] or None, the module's affine parameters in this pass.
        statistics: mean and biased variance [C] float64 of the batch if `uses_batch_statistics(module)`, else None.
        positions: P = N * H * W.
        dtype: that of the feature map.
    Raises:
        ValueError: batch statistics of a single value per channel, as in nn.BatchNorm2d.
    """
    if statistics is None:
        mean, variance = module.running_mean.double(), module.running_var.double()
    else:
        if positions == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got 1 for {module}")
        mean, variance = statistics
        if module.training and module.track_running_stats:
            _update_running_statistics(module, mean, variance, positions)
    invstd = (variance + module.eps).rsqrt()
    return BoundNorm(_norm(mean, invstd, gamma, beta, dtype), invstd, positions, statistics is not None)


def _norm(mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, dtype: torch.dtype) -> Norm:
    # A copy even where the dtype is the same: running_mean goes on changing.
    norm = Norm.of(mean, invstd, None if gamma is None else gamma.double(), None if beta is None else beta.double())
    return Norm(*(vector.to(real_dtype(dtype), copy=True) for vector in (norm.mean, norm.scale, norm.shift)))


def _update_running_statistics(module: nn.BatchNorm2d, mean: Tensor, variance: Tensor, positions: int) -> None:
    if module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
    momentum = module.momentum
    if momentum is None:  # cumulative average
        momentum = 1.0 / float(module.num_batches_tracked)
    unbiased = variance * (positions / (positions - 1))
    for running, batch in ((module.running_mean, mean), (module.running_var, unbiased)):
        running.mul_(1.0 - momentum).add_(batch.to(running.dtype), alpha=momentum)
