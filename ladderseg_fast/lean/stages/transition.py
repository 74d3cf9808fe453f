"""The transition down, with the pooling before the product: they commute (ALGORITHMS.md section 5)."""

import torch
from torch import Tensor

from ...nn import Transition
from ...ops import kernels
from ...ops.kernels import CorrectedGradient, Norm
from ..batch_norm import uses_batch_statistics
from ..feature import write
from ..passes import BackwardPass, ForwardPass
from ..workspace import Workspace
from .stage import Stage


class TransitionStage(Stage):
    """`transition` from feature `source` to the first channels of feature `target`, which it makes `channels` wide.

    The product reads the pooled map through a batch norm and ReLU that change nothing, for averages of rectified
    numbers are not negative. Where one is 0 the ReLU stops its gradient, as those below it would have.
    """

    def __init__(self, transition: Transition, source: str, target: str, channels: int) -> None:
        self.norm, self.conv = transition.norm, transition.conv
        self.channels = channels
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (self.norm, self.conv)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.bind_to_feature(self.norm, source, self.norm.num_features)
        pooled = self._pool(source.data, bound.norm, step.workspace)
        n, _, h, w = pooled.shape
        target = step.new_feature(self.writes, source.data, n, self.channels, h, w)
        statistics = kernels.bn_relu_conv1x1_forward(
            pooled,
            _identity(pooled),
            step.parameter(self.conv),
            target.channels(self.conv.out_channels),
            statistics=uses_batch_statistics(self.norm),  # most likely the next block normalises alike
        )
        if statistics is not None:
            target.set_statistics(0, *statistics)

    def backward(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.norms[self.norm]
        # The next block's buffer and its gradient go before this block's gradient is made.
        gradient = step.gradient_of(self.writes)
        n, _, h, w = gradient.data.shape
        grad = step.workspace.take(source.data, n, self.conv.out_channels, h, w)
        write(gradient.corrected(0, self.conv.out_channels), grad)
        del gradient
        step.drop_gradient(self.writes)
        pooled = self._pool(source.data, bound.norm, step.workspace)
        grad_pooled = step.workspace.take(pooled, *pooled.shape)
        grad_weight, _ = kernels.bn_relu_conv1x1_backward(
            CorrectedGradient(grad),
            pooled,
            _identity(pooled),
            step.parameter(self.conv),
            grad_pooled,
            accumulate=False,
            want_weight=step.wants(self.conv),
        )
        step.add_gradient(self.conv, grad_weight)
        target = step.gradient_of(self.reads[0])
        accumulate = target is not None
        grad_source = target.data if accumulate else step.workspace.take(source.data, *source.data.shape)
        sums = kernels.bn_relu_avgpool2_backward(grad_pooled, source.data, bound.norm, grad_source, accumulate)
        step.add_norm_gradients(self.norm, sums)
        if target is not None:
            target.defer(bound, sums)

    def _pool(self, x: Tensor, norm: Norm, workspace: Workspace) -> Tensor:
        n, c, h, w = x.shape
        pooled = workspace.take(x, n, c, h // 2, w // 2)
        kernels.bn_relu_avgpool2_forward(x, norm, pooled)
        return pooled


def _identity(x: Tensor) -> Norm:
    """The batch norm that changes nothing, for the channels of x."""
    ones = torch.ones(x.shape[1], dtype=x.dtype, device=x.device)
    return Norm(torch.zeros_like(ones), ones, torch.zeros_like(ones))
