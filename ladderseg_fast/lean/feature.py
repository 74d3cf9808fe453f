"""A feature map that several stages read, and its gradient."""

import torch
from torch import Tensor

from ..ops import kernels
from ..ops.backend import real_dtype
from ..ops.kernels import BnSums, CorrectedGradient
from .batch_norm import BoundNorm


class Feature:
    """A pixel-major buffer [N, F, H, W], for instance a dense block's; stages write and read ranges of its channels.

    The statistics of a channel are computed once, when its first reader asks (ALGORITHMS.md section 1).
    """

    def __init__(self, data: Tensor) -> None:
        self.data = data
        self.mean = torch.empty(data.shape[1], dtype=torch.float64, device=data.device)
        self.variance = torch.empty_like(self.mean)
        self._known = 0  # channels [0, _known) have their statistics

    @property
    def positions(self) -> int:
        n, _, h, w = self.data.shape
        return n * h * w

    @property
    def knows_statistics(self) -> bool:
        """Whether those of all channels have been computed."""
        return self._known == self.data.shape[1]

    def channels(self, stop: int) -> Tensor:
        """The first `stop` channels."""
        return self.data[:, :stop]

    def statistics(self, stop: int) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [stop] float64 of the first `stop` channels, all of which have been written."""
        if self._known < stop:
            fresh = slice(self._known, stop)
            self.mean[fresh], self.variance[fresh] = kernels.channel_statistics(self.data[:, fresh])
            self._known = stop
        return self.mean[:stop], self.variance[:stop]

    def set_statistics(self, start: int, mean: Tensor, variance: Tensor) -> None:
        """Statistics [C] float64 of channels from `start` on, from whoever wrote them."""
        stop = start + len(mean)
        if start != self._known:
            return  # whoever asks will compute those before as well
        self.mean[start:stop], self.variance[start:stop] = mean, variance
        self._known = stop


class FeatureGradient:
    """The gradient of a Feature, with the batch norm correction deferred (ALGORITHMS.md section 4).

    Readers add scale * m into `data` and leave the sums of their batch norm; whoever wrote a range of channels takes
    its gradient, corrected once for all readers.
    """

    def __init__(self, data: Tensor) -> None:
        self.data = data
        self._feature: Feature | None = None  # held from the first deferral on, for its values
        self._constant = torch.zeros(data.shape[1], dtype=torch.float64, device=data.device)
        self._slope = torch.zeros_like(self._constant)
        self._to_correct = False

    def channels(self, stop: int) -> Tensor:
        """The first `stop` channels, for a reader to add to."""
        return self.data[:, :stop]

    def defer(self, feature: Feature, bound: BoundNorm, sums: BnSums) -> None:
        """Note what a reader's batch norm asks of the statistics of the first channels of `feature`."""
        if not bound.batch_statistics:
            return
        self._feature = feature
        constant, slope = bound.correction(sums)
        self._constant[: len(constant)] += constant
        self._slope[: len(slope)] += slope
        self._to_correct = True

    def settle(self) -> None:
        """Apply in place what has been deferred so far, and let go of the feature."""
        write(self.corrected(0, self.data.shape[1]), self.data)
        self._constant.zero_()
        self._slope.zero_()
        self._to_correct = False
        self._feature = None

    def corrected(self, start: int, stop: int) -> CorrectedGradient:
        """The finished gradient of channels [start, stop): all of their readers have been through."""
        span = slice(start, stop)
        grad = self.data[:, span]
        if not self._to_correct:
            return CorrectedGradient(grad)
        vectors = (v[span].to(real_dtype(grad.dtype)) for v in (self._feature.mean, self._constant, self._slope))
        return CorrectedGradient(grad, self._feature.data[:, span], *vectors)


def write(gradient: CorrectedGradient, out: Tensor) -> Tensor:
    """Write the value of `gradient` [N, C, H, W] to `out`, and return that."""
    if gradient.x is None:
        return out if out is gradient.grad else out.copy_(gradient.grad)
    kernels.affine_correction(gradient, out)
    return out
